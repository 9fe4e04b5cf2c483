import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateResult, GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import { recordEvaluations } from '../../storage/db/queries/evaluation-queries.ts'
import { findDenseGeneration, listCellsOn, type GateCell } from '../../storage/db/queries/gate-queries.ts'
import { sumTokensByDomain } from '../../storage/db/queries/period-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { GateHoldout, GateInput, HoldoutLosses } from '../gate/gate-input.ts'
import { isFiniteLoss } from '../gate/soundness.ts'
import { trafficWeights } from '../gate/traffic-weights.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { holdoutsOf } from './gate-jobs.ts'
import { invalidResult, type FinishedJob } from './update-jobs.ts'
import { requireMaskVersion, type StepDeps } from './update-step.ts'

/** The time over which traffic gives domains their weight. */
const TRAFFIC_MS = 30 * 24 * 60 * 60 * 1000

/** The losses that a job found, by holdout version. */
type Measured = Map<string, HoldoutLosses & { tokens: number; windowTokens: number[] }>

/** The finished evaluations of an update. */
export interface Evaluations {
  candidate: FinishedJob
  parent: FinishedJob | undefined
  dense: FinishedJob | undefined
}

/**
 * Stores the losses of an update's evaluations, and returns what the gate decides on.
 *
 * @throws AppError `node_failed` for an incomplete result; `mask_invalid` if the dense model itself gives no finite loss
 */
export async function measure(deps: StepDeps, update: UpdateRow, jobs: Evaluations): Promise<GateInput> {
  const candidate = measured(jobs.candidate)
  const parent = jobs.parent ? measured(jobs.parent) : undefined
  const dense = jobs.dense ? measured(jobs.dense) : undefined
  requireFiniteDense(jobs.dense, dense)
  await record(deps, update, 0, jobs.dense, dense)
  if (update.parentVersion) await record(deps, update, update.parentVersion, jobs.parent, parent)
  await record(deps, update, requireMaskVersion(update), jobs.candidate, candidate)
  const refs = holdoutsOf(jobs.candidate.job)
  const names = refs.map(({ domain }) => domain)
  const nowMs = deps.nowMs()
  const [cells, counted, tokens, policy, generation] = await Promise.all([
    listCellsOn(
      deps.db,
      update.model,
      refs.map(({ sha256 }) => sha256),
    ),
    listCountedDomains(deps.db, update.model),
    sumTokensByDomain(deps.db, update.model, { fromMs: nowMs - TRAFFIC_MS, nowMs }),
    findPolicy(deps, update.model),
    generationChecks(deps, update, jobs),
  ])
  const weights = trafficWeights(names, update.domains, tokens)
  const holdouts = refs.map(({ domain, sha256 }): GateHoldout => {
    const losses = candidate.get(sha256)
    if (!losses) throw invalidResult(jobs.candidate.job, `domain '${domain}' is missing`)
    const cellOf = (version: number) =>
      cells.find((cell) => cell.version === version && cell.holdoutSha256 === sha256)
    const ofParent = parent?.get(sha256) ?? (update.parentVersion ? cellOf(update.parentVersion) : undefined)
    const ofDense = dense?.get(sha256) ?? cellOf(0)
    const best = bestStage(cells, sha256, losses.windowTokens.length)
    return {
      domain,
      sha256,
      windowTokens: losses.windowTokens,
      isNew: update.domains.includes(domain) && !counted.has(domain),
      weight: weights.get(domain) ?? 0,
      candidate: losses,
      // With an active mask that gives no finite loss nothing can be compared.
      ...(ofParent && isFiniteLoss(ofParent) ? { parent: ofParent } : {}),
      ...(ofDense ? { dense: ofDense } : {}),
      ...(best ? { best } : {}),
    }
  })
  requireSameWindows(jobs, holdouts)
  return { policy: policy.gate, holdouts, generation }
}

function measured({ job, result }: FinishedJob): Measured {
  if (result.kind !== 'evaluate') throw invalidResult(job, `it has the kind '${result.kind}'`)
  return new Map(
    holdoutsOf(job).map(({ sha256, domain }) => {
      const found = result.domains.find(({ holdoutSha256 }) => holdoutSha256 === sha256)
      if (!found) throw invalidResult(job, `domain '${domain}' is missing`)
      return [sha256, lossesOf(found) ?? missingWindows(job, domain)]
    }),
  )
}

function lossesOf({ tokens, nllMean, windowNll, windowTokens }: EvaluateResult['domains'][number]) {
  if (!windowNll || windowNll.length === 0 || windowTokens?.length !== windowNll.length) return undefined
  return { tokens, nllMean: tokens > 0 ? nllMean : null, windowNll, windowTokens }
}

function missingWindows(job: FinishedJob['job'], domain: string): never {
  throw invalidResult(job, `it lacks the window losses of domain '${domain}'`)
}

async function record(
  deps: StepDeps,
  { model }: UpdateRow,
  version: number,
  finished: FinishedJob | undefined,
  losses: Measured | undefined,
): Promise<void> {
  if (!finished || !losses) return
  const rows = holdoutsOf(finished.job).flatMap(({ sha256: holdoutSha256, domain }) => {
    const found = losses.get(holdoutSha256)
    // The table holds numbers only; a loss that is not finite stays in the job's result and in the decision.
    if (!found || !isFiniteLoss(found) || found.nllMean === null) return []
    const { tokens, nllMean } = found
    const windowNll = (found.windowNll ?? []).map((loss) => loss ?? 0)
    return [{ model, version, domain, holdoutSha256, tokens, nllMean, windowNll, createdAt: deps.nowMs() }]
  })
  await recordEvaluations(deps.db, rows)
}

/**
 * Returns the mask with the lowest loss on a holdout version of those that were active, if it can be compared window by window.
 * Masks that were rolled back do not count: without their texts no later mask can be as good on the domains that they added.
 */
function bestStage(
  cells: readonly GateCell[],
  sha256: string,
  windows: number,
): GateHoldout['best'] | undefined {
  const [best] = cells
    .filter(
      ({ holdoutSha256, isStage, windowNll }) =>
        holdoutSha256 === sha256 && isStage && windowNll?.length === windows,
    )
    .toSorted((a, b) => a.nllMean - b.nllMean)
  return best && { version: best.version, nllMean: best.nllMean, windowNll: best.windowNll }
}

async function generationChecks(
  deps: StepDeps,
  { model }: UpdateRow,
  { candidate, dense }: Evaluations,
): Promise<GateInput['generation']> {
  const own = generationOf(candidate)
  const ofDense = (dense && generationOf(dense)) ?? (await findDenseGeneration(deps.db, model))
  if (!own) throw invalidResult(candidate.job, 'it lacks the check of what the mask generates')
  if (!ofDense)
    throw invalidResult((dense ?? candidate).job, 'it lacks the check of what the dense model generates')
  return { candidate: own, dense: ofDense }
}

function generationOf({ result }: FinishedJob): GenerationCheck | undefined {
  return result.kind === 'evaluate' ? result.generation : undefined
}

function requireFiniteDense(job: FinishedJob | undefined, losses: Measured | undefined): void {
  for (const [sha256, { nllMean }] of losses ?? []) {
    if (nllMean !== null && Number.isFinite(perplexity(nllMean))) continue
    const domain = job && holdoutsOf(job.job).find((holdout) => holdout.sha256 === sha256)?.domain
    throw new AppError(
      'mask_invalid',
      `The perplexity of the dense model on domain '${domain}' is not finite, so no mask can be compared with it. ` +
        'Check the texts of that domain and the files of the model.',
    )
  }
}

/** Two masks of a model are cut into the same windows by the same tokenizer. */
function requireSameWindows({ candidate }: Evaluations, holdouts: readonly GateHoldout[]): void {
  const odd = holdouts.find(
    ({ parent, windowTokens }) => parent?.windowNll && parent.windowNll.length !== windowTokens.length,
  )
  if (odd)
    throw invalidResult(candidate.job, `it has other windows of domain '${odd.domain}' than the active mask`)
}
