import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { CalibrateJob, CalibrateResult, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { findJob, type JobRow } from '../../storage/db/queries/job-queries.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { maskKey } from '../../storage/artifacts/artifact-keys.ts'
import { figure } from '../gate/gate-figures.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { selectingNodes } from './gate-jobs.ts'
import { approval, rejection } from './gate-outcome.ts'
import { repeatCalibration } from './job-losses.ts'
import { nodesUnlike } from './nodes-by-numerics.ts'
import { liveNodes } from './trial-check.ts'
import {
  calibrateJobId,
  confirmJobId,
  evaluateConfirmedJobId,
  evaluateJobId,
  invalidResult,
  jobNumerics,
  queueJobs,
  stepOfJobs,
  type FinishedJob,
} from './update-jobs.ts'
import { requireMaskVersion, type Step, type StepDeps, type StepOutcome } from './update-step.ts'

/** The least fraction of equal mask bits. Nodes with other instruction sets round differently, which decides near ties. */
const MIN_AGREEMENT = 0.999
/** The largest difference of a domain's loss under both masks, as a fraction of it. */
const MAX_LOSS_DIFFERENCE = 0.001

/**
 * The step in which another node selects the mask from the same input. It must give the same file, or one with nearly the
 * same bits and the same losses: otherwise one of the two nodes computes wrongly, and the mask does not serve.
 */
export const confirm: Step = stepOfJobs({
  jobIds: (update) => [confirmJobId(update), evaluateConfirmedJobId(update)],
  start: queueConfirmation,
  finish: compare,
})

async function queueConfirmation(deps: StepDeps, update: UpdateRow): Promise<void> {
  const [selection, mask, nodes, policy] = await readTogether(deps.db, (db) => [
    findJob(db, calibrateJobId(update)),
    findMask(db, update.model, requireMaskVersion(update)),
    liveNodes(deps, update.model),
    findPolicy({ ...deps, db }, update.model),
  ])
  // A policy of two nodes waits for a second one; `auto` takes the node that there is.
  if (policy.confirm === 2 && nodes.length < 2) return
  const payload: CalibrateJob = {
    ...(selection?.payload as CalibrateJob),
    id: confirmJobId(update),
    ...(mask ? { compareWith: mask.sha256 } : {}),
  }
  const avoidNodes = selection?.nodeId ? [selection.nodeId] : []
  await queueJobs(deps, update, [{ work: payload, avoidNodes }])
}

async function compare(
  deps: StepDeps,
  update: UpdateRow,
  [selected, evaluated]: FinishedJob[],
): Promise<StepOutcome | undefined> {
  if (selected?.result.kind !== 'calibrate') return undefined
  const { job, result } = selected
  const mask = await findMask(deps.db, update.model, requireMaskVersion(update))
  const [first] = await selectingNodes(deps, update)
  const policy = await findPolicy(deps, update.model)
  const who = `Node '${job.nodeId}' selected`
  const isSame = job.nodeId === first
  // A job that went to another node keeps its last error.
  const failure = job.errorMessage === null ? '' : ` ${job.errorMessage}`
  if (policy.confirm === 2 && isSame)
    return conclude(
      deps,
      update,
      [],
      `No second node was alive and could select it: node '${job.nodeId}' selected it again.${failure}`,
      false,
    )
  const cause = failure ? `the job failed on another one.${failure}` : 'no other one was alive and could.'
  const again = isSame ? ` It is the node that selected it first, because ${cause}` : ''
  const end = (figures: DecisionFigure[], reason: string, passed: boolean) =>
    conclude(deps, update, figures, reason + again, passed)
  if (mask?.sha256 === result.maskSha256) return end([agreementFigure(1)], `${who} the same mask.`, true)
  const agreement = agreementFigure(result.agreement ?? null)
  if (!agreement.passed) {
    const share =
      result.agreement === undefined ? 'an unknown share' : `${(result.agreement * 100).toFixed(3)} %`
    return end(
      [agreement],
      `${who} a mask of which ${share} of the bits are equal; ${MIN_AGREEMENT * 100} % are required.`,
      false,
    )
  }
  const own = await firstEvaluation(deps, update, job)
  if (!evaluated) return evaluateOther(deps, update, job, { result, own })
  const [numerics, otherNumerics] = [own, evaluated].map((each) => jobNumerics(each))
  if (!sameNumerics(numerics ?? null, otherNumerics ?? null))
    return end(
      [agreement],
      `${who} a mask with nearly the same bits, whose losses cannot be compared: they were measured in ` +
        `'${otherNumerics ?? 'unknown'}', and those of the first mask in '${numerics ?? 'unknown'}'. Start the update again.`,
      false,
    )
  const losses = lossFigures(own, evaluated)
  const passed = losses.every((each) => each.passed)
  const reason = passed
    ? `${who} a mask with nearly the same bits and the same losses.`
    : `${who} a mask with nearly the same bits, but its losses differ by more than ${MAX_LOSS_DIFFERENCE * 100} %.`
  return end([agreement, ...losses], reason, passed)
}

async function conclude(
  deps: StepDeps,
  update: UpdateRow,
  figures: DecisionFigure[],
  reason: string,
  passed: boolean,
): Promise<StepOutcome> {
  const decision = { kind: 'confirm', reason, figures, actor: SERVICE_ACTOR } as const
  if (!passed) return rejection(update, { ...decision, verdict: 'failed' })
  const event = approval(await findPolicy(deps, update.model), update)
  return { event, patch: {}, decision: { ...decision, verdict: 'passed' } }
}

/** Queues the evaluation of the other node's mask on the holdouts that the first one was evaluated on. */
async function evaluateOther(
  deps: StepDeps,
  update: UpdateRow,
  job: JobRow,
  { result: { maskSha256 }, own }: { result: CalibrateResult; own: FinishedJob },
): Promise<undefined> {
  if (!(await deps.artifacts.head(maskKey(maskSha256)))) {
    await repeatCalibration(deps, job)
    return undefined
  }
  const payload = {
    ...(own.job.payload as EvaluateJob),
    id: evaluateConfirmedJobId(update),
    mask: maskSha256,
    checkGeneration: false,
  }
  await queueJobs(deps, update, [{ work: payload, avoidNodes: await nodesUnlike(deps, own) }])
  return undefined
}

function agreementFigure(value: number | null): DecisionFigure {
  return figure('equal mask bits', value !== null && value >= MIN_AGREEMENT, {
    value,
    limit: MIN_AGREEMENT,
    note: 'at least',
  })
}

/** Returns the evaluation of the mask that is confirmed. */
async function firstEvaluation(
  { db }: Pick<StepDeps, 'db'>,
  update: UpdateRow,
  confirming: JobRow,
): Promise<FinishedJob> {
  const job = await findJob(db, evaluateJobId(update))
  if (!job?.result) throw invalidResult(confirming, 'the mask that it confirms was not evaluated')
  return { job, result: job.result }
}

function lossFigures({ result: first }: FinishedJob, { job, result }: FinishedJob): DecisionFigure[] {
  if (first.kind !== 'evaluate' || result.kind !== 'evaluate')
    throw invalidResult(job, `it has the kind '${result.kind}'`)
  return first.domains.map(({ domain, holdoutSha256, tokens, nllMean }) => {
    const other = result.domains.find((each) => each.holdoutSha256 === holdoutSha256)?.nllMean ?? null
    const difference =
      nllMean === null || other === null ? null : Math.abs(other - nllMean) / Math.abs(nllMean)
    return figure('difference of losses', difference !== null && difference <= MAX_LOSS_DIFFERENCE, {
      domain,
      holdout: holdoutSha256,
      tokens,
      value: difference,
      limit: MAX_LOSS_DIFFERENCE,
    })
  })
}
