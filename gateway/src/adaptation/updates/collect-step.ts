import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { freezeDataset } from '../../storage/artifacts/datasets.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { markKnownTexts } from '../statistics/mark-known-texts.ts'
import { releaseEarlier } from '../statistics/release-texts.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { requireHeldOutTexts } from './require-domain-texts.ts'
import { charactersToTake, isEnough, tooFewSamples } from './text-sufficiency.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/**
 * Takes the new texts of each domain, freezes them as datasets, and records the active mask as the parent.
 *
 * A domain with statistics but too little new text gives none: the mask is selected from what counts already. Each part may
 * be interrupted and repeated, because a reservoir gives the same update the same texts, which make the same dataset.
 *
 * @throws AppError `insufficient_samples` for a domain with neither statistics nor enough new text
 */
export async function collect(deps: StepDeps, update: UpdateRow): Promise<StepOutcome> {
  const model = await requireModel(deps, update)
  await releaseEarlier(deps, update)
  for (const domain of update.domains) await markKnownTexts(deps, domain)
  await requireHeldOutTexts(deps, update.domains, evaluationWindow(model))
  const counted = await listCountedDomains(deps.db, update.model)
  // Every domain is checked before anything is stored.
  const domains: string[] = []
  const { influence } = await findPolicy(deps, update.model)
  for (const domain of update.domains) {
    const characters = charactersOf(await take(deps, update, domain, influence))
    if (isEnough(characters, update)) domains.push(domain)
    else if (!counted.has(domain)) throw tooFewSamples(domain, characters, update)
    else await deps.reservoir(domain).release({ model: update.model, updateId: update.id })
  }
  const datasets: string[] = []
  // One at a time: an isolate has 128 MB, and freezing a domain may take some tens of MB.
  for (const domain of domains) {
    const { sha256 } = await freezeDataset(deps, domain, await take(deps, update, domain, influence))
    datasets.push(sha256)
  }
  return { event: 'collected', patch: { datasets, parentVersion: model.activeVersion } }
}

async function take(
  deps: StepDeps,
  update: UpdateRow,
  domain: string,
  influence: AdaptationPolicy['influence'],
): Promise<StoredText[]> {
  return deps.reservoir(domain).take({
    model: update.model,
    updateId: update.id,
    maxCharacters: charactersToTake(update),
    maxKeyShare: influence.max_key_share,
    outlierDeviations: influence.outlier_deviations,
  })
}

function charactersOf(texts: readonly StoredText[]): number {
  return texts.reduce((sum, { text }) => sum + text.length, 0)
}
