import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateResult, GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import { recordEvaluations, type EvaluationRow } from '../../storage/db/queries/evaluation-queries.ts'
import { countCandidates, findDenseGeneration, type GateCell } from '../../storage/db/queries/gate-queries.ts'
import { findMask, findMaskByHash } from '../../storage/db/queries/mask-queries.ts'
import { sumRecentTokens } from '../../storage/db/queries/period-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import type { GateHoldout, GateInput, HoldoutLosses, OtherNumerics } from '../gate/gate-input.ts'
import { isFiniteLoss } from '../gate/soundness.ts'
import { trafficWeights } from '../holdouts/traffic-weights.ts'
import { holdoutsOf } from './gate-jobs.ts'
import { invalidResult, jobNumerics, type FinishedJob } from './update-jobs.ts'
import { requireMaskVersion, type StepDeps } from './update-step.ts'

/** The losses that a job found, by holdout version, and the numerics of the weights. */
interface Measured {
  job: FinishedJob['job']
  numerics: string | null
  losses: Map<string, HoldoutLosses & { tokens: number; windowTokens: number[] }>
}

/** The finished evaluations of an update; those of each mask in the order in which they were queued. */
export interface Evaluations {
  candidate: FinishedJob
  parent: readonly FinishedJob[]
  dense: readonly FinishedJob[]
  /** Of earlier masks that were best on an earlier version of a holdout. */
  best: readonly FinishedJob[]
}

/**
 * Stores the losses of an update's evaluations.
 *
 * @throws AppError `node_failed` for an incomplete result; `mask_invalid` if the dense model itself gives no finite loss
 */
export async function recordLosses(deps: StepDeps, update: UpdateRow, jobs: Evaluations): Promise<void> {
  const dense = jobs.dense.map(measured)
  dense.forEach(requireFiniteDense)
  const rows = dense.flatMap((each) => evaluationsOf(deps, update, 0, each))
  for (const each of jobs.parent)
    rows.push(...evaluationsOf(deps, update, update.parentVersion ?? 0, measured(each)))
  for (const each of jobs.best) {
    const mask = await findMaskByHash(deps.db, update.model, maskOf(each) ?? '')
    const losses = mask && measuredIfComplete(each)
    if (losses) rows.push(...evaluationsOf(deps, update, mask.version, losses))
  }
  rows.push(...evaluationsOf(deps, update, requireMaskVersion(update), measured(jobs.candidate)))
  await recordEvaluations(deps.db, rows)
}

/** An earlier mask is compared only if its evaluation succeeded: the update goes on without. */
function measuredIfComplete(job: FinishedJob): ReturnType<typeof measured> | undefined {
  try {
    return measured(job)
  } catch (error) {
    console.error(`The evaluation ${job.job.id} of an earlier mask is not used:`, error)
    return undefined
  }
}

function maskOf({ job: { payload } }: FinishedJob): string | null {
  return payload.kind === 'evaluate' ? payload.mask : null
}

/**
 * Returns what the gate decides on.
 *
 * @param known.cells what is known of the candidate's holdouts, these evaluations included
 * @param known.policy what the operator allows
 * @throws AppError `node_failed` for an incomplete result
 */
export async function measure(
  deps: StepDeps,
  update: UpdateRow,
  jobs: Evaluations,
  { cells, policy }: { cells: readonly GateCell[]; policy: GateInput['policy'] },
): Promise<GateInput> {
  const { numerics, losses: candidate } = measured(jobs.candidate)
  const parents = jobs.parent.map(measured)
  const dense = jobs.dense.map(measured)
  const refs = holdoutsOf(jobs.candidate.job)
  const names = refs.map(({ domain }) => domain)
  const { parentVersion } = update
  const [counted, parentMask, tokens, generation, earlier] = await readTogether(deps.db, (db) => [
    listCountedDomains(db, update.model),
    parentVersion ? findMask(db, update.model, parentVersion) : undefined,
    sumRecentTokens(db, update.model, deps.nowMs()),
    generationChecks({ db }, update, jobs),
    countCandidates(db, update, requireMaskVersion(update)),
  ])
  const weights = trafficWeights(names, update.domains, tokens)
  const comparable = cells.filter((cell) => sameNumerics(cell.numerics, numerics))
  let otherNumerics: OtherNumerics | undefined
  const holdouts = refs.map(({ domain, sha256 }): GateHoldout => {
    const losses = candidate.get(sha256)
    if (!losses) throw invalidResult(jobs.candidate.job, `domain '${domain}' is missing`)
    const lossesUnder = (version: number, ended: readonly Measured[]): HoldoutLosses | undefined => {
      const known = [
        ...ended.map((each) => ({ numerics: each.numerics, losses: each.losses.get(sha256) })),
        ...cells
          .filter((cell) => cell.version === version && cell.holdoutSha256 === sha256)
          .map((cell) => ({ numerics: cell.numerics, losses: cell })),
      ].filter((each) => each.losses !== undefined)
      const found = known.find((each) => sameNumerics(each.numerics, numerics))
      const [other] = known
      if (!found && other)
        otherNumerics ??= { candidate: numerics, version, domain, numerics: other.numerics }
      return found?.losses
    }
    const ofParent = update.parentVersion ? lossesUnder(update.parentVersion, parents) : undefined
    const ofDense = lossesUnder(0, dense)
    const best = bestStage(comparable, sha256, losses.windowTokens.length)
    return {
      domain,
      sha256,
      windowTokens: losses.windowTokens,
      // The batches of a rebuilt domain do not count, but the active mask knows it.
      isNew: update.domains.includes(domain) && !counted.has(domain) && !parentMask?.domains.includes(domain),
      weight: weights.get(domain) ?? 0,
      candidate: losses,
      // With an active mask that gives no finite loss nothing can be compared.
      ...(ofParent && isFiniteLoss(ofParent) ? { parent: ofParent } : {}),
      ...(ofDense ? { dense: ofDense } : {}),
      ...(best ? { best } : {}),
    }
  })
  requireSameWindows(jobs, holdouts)
  return {
    policy,
    holdouts,
    generation,
    candidate: earlier + 1,
    ...(otherNumerics ? { otherNumerics } : {}),
  }
}

function measured(finished: FinishedJob): Measured {
  const { job, result } = finished
  if (result.kind !== 'evaluate') throw invalidResult(job, `it has the kind '${result.kind}'`)
  const losses = holdoutsOf(job).map(({ sha256, domain }) => {
    const found = result.domains.find(({ holdoutSha256 }) => holdoutSha256 === sha256)
    if (!found) throw invalidResult(job, `domain '${domain}' is missing`)
    return [sha256, lossesOf(found) ?? missingWindows(job, domain)] as const
  })
  return { job, numerics: jobNumerics(finished), losses: new Map(losses) }
}

function lossesOf({ tokens, nllMean, windowNll, windowTokens }: EvaluateResult['domains'][number]) {
  if (!windowNll || windowNll.length === 0 || windowTokens?.length !== windowNll.length) return undefined
  return { tokens, nllMean: tokens > 0 ? nllMean : null, windowNll, windowTokens }
}

function missingWindows(job: FinishedJob['job'], domain: string): never {
  throw invalidResult(job, `it lacks the window losses of domain '${domain}'`)
}

/** Returns the losses of one mask as they are stored. */
function evaluationsOf(
  { nowMs }: Pick<StepDeps, 'nowMs'>,
  { model }: UpdateRow,
  version: number,
  { job, numerics, losses }: Measured,
): EvaluationRow[] {
  return holdoutsOf(job).flatMap(({ sha256: holdoutSha256, domain }) => {
    const found = losses.get(holdoutSha256)
    // The table holds numbers only; a loss that is not finite stays in the job's result and in the decision.
    if (!found || !isFiniteLoss(found) || found.nllMean === null) return []
    const { tokens, nllMean } = found
    const windowNll = (found.windowNll ?? []).map((loss) => loss ?? 0)
    const createdAt = nowMs()
    return [{ model, version, domain, holdoutSha256, tokens, nllMean, windowNll, numerics, createdAt }]
  })
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
  deps: Pick<StepDeps, 'db'>,
  { model }: UpdateRow,
  { candidate, dense }: Evaluations,
): Promise<GateInput['generation']> {
  const own = generationOf(candidate)
  const [checked] = dense.flatMap((each) => generationOf(each) ?? [])
  const ofDense = checked ?? (await findDenseGeneration(deps.db, model))
  if (!own) throw invalidResult(candidate.job, 'it lacks the check of what the mask generates')
  if (!ofDense)
    throw invalidResult((dense[0] ?? candidate).job, 'it lacks the check of what the dense model generates')
  return { candidate: own, dense: ofDense }
}

function generationOf({ result }: FinishedJob): GenerationCheck | undefined {
  return result.kind === 'evaluate' ? result.generation : undefined
}

function requireFiniteDense({ job, losses }: Measured): void {
  for (const [sha256, { nllMean }] of losses) {
    if (nllMean !== null && Number.isFinite(perplexity(nllMean))) continue
    const domain = holdoutsOf(job).find((holdout) => holdout.sha256 === sha256)?.domain
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
