import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { freezeDataset } from '../../storage/artifacts/datasets.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'
import { charactersToTake } from './text-sufficiency.ts'
import { requireDomainTexts } from './require-domain-texts.ts'

/** Freezes a dataset of each domain, and records the active mask as the parent. */
export async function collect(deps: StepDeps, update: UpdateRow): Promise<StepOutcome> {
  const model = await requireModel(deps, update)
  await requireDomainTexts(deps, update.domains, update, evaluationWindow(model))
  const datasets: string[] = []
  // One at a time: an isolate has 128 MB, and freezing a domain may take some tens of MB.
  for (const domain of update.domains) {
    const texts = await deps.reservoir(domain).texts(charactersToTake(update))
    const { sha256 } = await freezeDataset(deps, domain, texts)
    datasets.push(sha256)
  }
  return { event: 'collected', patch: { datasets, parentVersion: model.activeVersion } }
}
