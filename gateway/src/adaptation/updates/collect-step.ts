import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { StoredText, TakeRequest } from '../../contracts/reservoir-object.ts'
import { freezeDataset } from '../../storage/artifacts/datasets.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import { findDatasets } from '../../storage/db/queries/dataset-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { noteDataset, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { describeLosses } from '../sampling/describe-losses.ts'
import { textBytes } from '../sampling/text-bytes.ts'
import { findKnownTexts, markKnownTexts } from '../statistics/mark-known-texts.ts'
import { releaseEarlier } from '../statistics/release-texts.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { requireHeldOutTexts } from './require-domain-texts.ts'
import { drawOf } from './draw-of.ts'
import { isEnough, tooFewSamples } from './text-sufficiency.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/** Texts of unknown loss that an update has described, of all of its domains together. */
const MAX_DESCRIBED = 512
/** How long after it was created an update has texts described. Beyond that, only their shares bound what keys do. */
export const DESCRIBE_MS = 60_000

/**
 * Takes the new texts of each domain, freezes them as datasets, and records the active mask as the parent.
 *
 * A domain with statistics but too little new text gives none: the mask is selected from what counts already. Each part may
 * be interrupted and repeated, because a reservoir gives the same update the same texts, which make the same dataset. A dataset is
 * recorded as soon as it is frozen, so that each event goes on where the calls of the one before have ended.
 *
 * @throws AppError `insufficient_samples` for a domain with neither statistics nor enough new text
 */
export async function collect(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const [model, collected, { influence }, counted, knownTexts] = await readTogether(deps.db, (db) => [
    requireModel({ db }, update),
    findDatasets(db, update.datasets ?? []),
    findPolicy({ ...deps, db }, update.model),
    listCountedDomains(db, update.model),
    findKnownTexts({ db }, update.domains),
  ])
  if (collected.length === 0) {
    await releaseEarlier(deps, update)
    await requireHeldOutTexts(deps, update.domains, evaluationWindow(model))
  }
  const left = update.domains.filter((domain) => !collected.some((dataset) => dataset.domain === domain))
  const describe = await describer(deps, update, model, influence)
  const datasets = collected.map(({ sha256 }) => sha256)
  // One at a time: an isolate has 128 MB, and freezing a domain may take some tens of MB.
  for (const domain of left) {
    await markKnownTexts(deps, domain, knownTexts)
    if (!(await describe(domain))) return undefined
    const texts = await take(deps, update, domain, influence)
    const bytes = bytesOf(texts)
    if (isEnough(bytes, update)) {
      const frozen = await freezeDataset(deps, domain, texts)
      datasets.push(await noteDataset(deps.db, update, frozen))
    } else if (!counted.has(domain)) throw tooFewSamples(domain, bytes, update)
    else await deps.reservoir(domain).release(update.model, [update.id])
  }
  // Describing may have taken a minute, in which another mask may have become active.
  const { activeVersion } = await requireModel(deps, update)
  return { event: 'collected', patch: { datasets, parentVersion: activeVersion } }
}

/**
 * Returns a function that has the texts described that the update would take of a domain without a known dense loss, so that outliers
 * are set aside first. What no node describes in time is taken all the same. It returns false in a heartbeat while another call may
 * still do it.
 */
async function describer(
  deps: StepDeps,
  update: UpdateRow,
  model: ModelRow,
  influence: AdaptationPolicy['influence'],
): Promise<(domain: string) => Promise<boolean>> {
  const untilMs = update.createdAt + DESCRIBE_MS
  if (influence.outlier_deviations === null) return () => Promise.resolve(true)
  const bases = (await listModels(deps.db)).map(({ baseSha256 }) => baseSha256)
  const budget = { texts: MAX_DESCRIBED, untilMs }
  const request = { ...drawOf(update, influence), updateId: update.id }
  return async (domain) => {
    if (deps.nowMs() >= untilMs) return true
    if (deps.isHeartbeat) return !(await isMissing(deps, model, domain, request))
    await describeLosses(deps, model, domain, request, { bases, budget })
    return true
  }
}

async function isMissing(
  deps: StepDeps,
  { baseSha256 }: ModelRow,
  domain: string,
  request: TakeRequest,
): Promise<boolean> {
  const texts = await deps.reservoir(domain).textsWithoutLoss({ ...request, baseSha256, limit: 1 })
  return texts.length > 0
}

function take(
  deps: StepDeps,
  update: UpdateRow,
  domain: string,
  influence: AdaptationPolicy['influence'],
): Promise<StoredText[]> {
  return deps.reservoir(domain).take({ ...drawOf(update, influence), updateId: update.id })
}

function bytesOf(texts: readonly StoredText[]): number {
  return texts.reduce((sum, { text }) => sum + textBytes(text), 0)
}
