import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { freezeDataset } from '../../storage/artifacts/datasets.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { modelOf, type StepDeps, type StepOutcome } from './update-step.ts'
import { charactersToTake } from './text-sufficiency.ts'
import { requireText } from './require-text.ts'

/** Freezes a snapshot of each domain, and remembers which mask is active. */
export async function collect(deps: StepDeps, update: UpdateRow): Promise<StepOutcome> {
  const model = await modelOf(deps, update)
  await requireText(deps, update.domains, update, evaluationWindow(model))
  const datasets: string[] = []
  // One after the other: an isolate has 128 MB, and what is frozen of a domain may take some tens of them.
  for (const domain of update.domains) {
    const texts = await deps.reservoir(domain).texts(charactersToTake(update))
    const { sha256 } = await freezeDataset(deps, domain, texts)
    datasets.push(sha256)
  }
  return { event: 'collected', patch: { datasets, parentVersion: model.activeVersion } }
}
