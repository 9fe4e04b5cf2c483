import { AppError } from '@copal/shared/errors.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import type { DatasetRef, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import {
  findDenseGeneration,
  listCellsOn,
  listEndedBest,
  listStageLosses,
  type GateCell,
} from '../../storage/db/queries/gate-queries.ts'
import { findJob, findJobs, type JobRow } from '../../storage/db/queries/job-queries.ts'
import { findMask, type MaskRow } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { lastEvaluated } from '../../storage/db/queries/evaluation-queries.ts'
import { sumRecentTokens } from '../../storage/db/queries/period-queries.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { chooseHoldouts } from '../holdouts/choose-holdouts.ts'
import { currentHoldouts } from '../holdouts/current-holdouts.ts'
import { earlierBest } from '../holdouts/earlier-best.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { nodesOfOtherNumerics, nodesUnlike } from './nodes-by-numerics.ts'
import { liveNodes } from './trial-check.ts'
import {
  calibrateJobId,
  evaluateBestJobIds,
  evaluateDenseJobIds,
  evaluateJobId,
  evaluateParentJobIds,
  jobNumerics,
  queueJobs,
  type FinishedJob,
  type NewJob,
} from './update-jobs.ts'
import { requireMaskVersion, requireModel, type StepDeps } from './update-step.ts'

/** Evaluations of an earlier mask on a holdout version after which it is not tried again: they gave no loss that could be stored. */
const MAX_BEST_TRIES = 2

/** The masks that a candidate is compared with, by the ids of the jobs that evaluate them. */
type Reference = { jobIds: string[]; version: number; mask: string | null; checkGeneration: boolean }

/**
 * Returns whether an update activates an imported mask: no node selects it. An update that found too little new text has no
 * datasets either, but selects a mask.
 */
export async function isImport(deps: Pick<StepDeps, 'db'>, update: UpdateRow): Promise<boolean> {
  return (await findJob(deps.db, selectionJobId(update))) === undefined
}

/** Returns the id of the job that an update has unless it activates an imported mask. */
function selectionJobId({ id }: UpdateRow): string {
  return calibrateJobId({ id, candidate: 1 })
}

/**
 * Queues the evaluation of the current candidate, and those of parent and dense model where they are missing.
 *
 * The holdouts are fixed by the first job of the update that is stored: later candidates, and the masks that they are
 * compared with, are evaluated on the same versions.
 */
export async function queueEvaluations(deps: StepDeps, update: UpdateRow): Promise<void> {
  const firstIds = [evaluateJobId({ id: update.id, candidate: 1 }), selectionJobId(update)]
  const [mask, model, jobs] = await readTogether(deps.db, (db) => [
    requireMask({ db }, update, requireMaskVersion(update)),
    requireModel({ db }, update),
    findJobs(db, [...firstIds, calibrateJobId(update)]),
  ])
  const windowTokens = evaluationWindow(model)
  const [first, selection] = firstIds.map((id) => jobs.find((job) => job.id === id))
  const holdouts = first
    ? holdoutsOf(first)
    : await holdoutsToEvaluate(deps, update, selection ? update.domains : [], windowTokens)
  const payload: EvaluateJob = {
    kind: 'evaluate',
    id: evaluateJobId(update),
    model: update.model,
    mask: mask.sha256,
    holdouts,
    windowTokens,
    checkGeneration: true,
  }
  // Where another node lives, it checks what one node selected.
  const selecting = jobs.flatMap(({ id, nodeId }) => (id === calibrateJobId(update) && nodeId ? nodeId : []))
  const cells = await listCells(deps, update, holdouts)
  const unlike = await unlikeParent(deps, update, cells, selecting)
  // In one transaction, because the job of the candidate shows a call that continues that all were queued.
  await queueJobs(deps, update, [
    ...(update.candidate === 1 ? await earlierBestJobs(deps, update, payload, unlike) : []),
    { work: payload, avoidNodes: [...selecting, ...unlike] },
  ])
  const stored = await findJob(deps.db, payload.id)
  if (!stored) return
  // Another call may have stored the job first, with other holdouts.
  const isOwn = holdoutsOf(stored).every(({ sha256 }, index) => sha256 === holdouts[index]?.sha256)
  await queueReferences(deps, update, stored, {
    cells: isOwn ? cells : await listCellsOfJob(deps, stored),
    avoidNodes: unlike,
  })
}

/**
 * Returns evaluations of the earlier masks that are the best on earlier versions of the holdouts, and were not measured since. The
 * gate then compares the candidate with them as before. A domain's own mask is compared with the shared one alone.
 */
async function earlierBestJobs(
  deps: StepDeps,
  update: UpdateRow,
  { holdouts, windowTokens }: Pick<EvaluateJob, 'holdouts' | 'windowTokens'>,
  avoidNodes: readonly string[],
): Promise<NewJob[]> {
  const { model, parentVersion, ownDomain } = update
  if (ownDomain !== null || parentVersion === null) return []
  const domains = holdouts.map(({ domain }) => domain)
  const losses = await listStageLosses(deps.db, model, domains)
  if (losses.every(({ version }) => version === parentVersion)) return []
  const ended = await listEndedBest(deps.db, model, MAX_BEST_TRIES)
  const due = earlierBest(holdouts, losses, { parentVersion, ended, seed: update.id })
  return evaluateBestJobIds(update).flatMap((id, index) => {
    const best = due[index]
    if (!best) return []
    const work = { mask: best.mask, holdouts: best.holdouts, windowTokens, checkGeneration: false }
    return { work: { kind: 'evaluate' as const, id, model, ...work }, avoidNodes }
  })
}

/** Returns the nodes that do not measure as the mask was that a candidate is compared with, if another one does. */
async function unlikeParent(
  deps: StepDeps,
  { model, parentVersion }: UpdateRow,
  cells: readonly GateCell[],
  selecting: readonly string[],
): Promise<string[]> {
  const known = cells.find(({ version, numerics }) => version === (parentVersion ?? 0) && numerics !== null)
  return known?.numerics ? nodesOfOtherNumerics(await liveNodes(deps, model), known.numerics, selecting) : []
}

/** Returns the current holdouts, as many as the policy allows. */
async function holdoutsToEvaluate(
  deps: StepDeps,
  { model, ownDomain }: UpdateRow,
  updated: readonly string[],
  windowTokens: number,
): Promise<DatasetRef[]> {
  const [tokens, { effort }, evaluatedMs] = await readTogether(deps.db, (db) => [
    sumRecentTokens(db, model, deps.nowMs()),
    findPolicy({ ...deps, db }, model),
    lastEvaluated(db, model),
  ])
  const holdouts = await currentHoldouts(deps, { domains: updated, traffic: tokens }, windowTokens)
  if (ownDomain !== null)
    return holdouts.filter(({ domain }) => domain === ownDomain || domain === GENERAL_HOLDOUT)
  const { max_holdouts: maxHoldouts } = effort
  return chooseHoldouts(holdouts, { updated, maxHoldouts, tokens, evaluatedMs })
}

/**
 * Queues evaluations of parent and dense model on those of the candidate's holdouts where their window losses are not known. Once the
 * candidate is measured, only losses of its numerics count: others are measured once more, by the same node while it lives.
 *
 * @param known.cells what is known of the candidate's holdouts
 * @param known.finished the jobs whose results are known; another call may have queued jobs since they were read
 * @param known.avoidNodes nodes that likely measure in other numerics than the candidate is measured in
 * @returns whether nothing is missing that can still be measured
 */
export async function queueReferences(
  deps: StepDeps,
  update: UpdateRow,
  evaluation: JobRow,
  {
    cells,
    finished = [],
    avoidNodes = [],
  }: { cells: readonly GateCell[]; finished?: readonly FinishedJob[]; avoidNodes?: readonly string[] },
): Promise<boolean> {
  const [references, known] = await readTogether(deps.db, (db) => [
    referencesOf({ db }, update),
    findJobs(db, [...evaluateDenseJobIds(update), ...evaluateParentJobIds(update)]),
  ])
  const candidate = finished.find(({ job }) => job.id === evaluation.id)
  const isComparable = (numerics: string | null) =>
    !candidate || sameNumerics(numerics, jobNumerics(candidate))
  const comparable = cells.filter(({ numerics }) => isComparable(numerics))
  let isComplete = true
  const jobs: NewJob[] = []
  for (const { jobIds, version, mask, checkGeneration } of references) {
    const ended = finished.filter(({ job }) => jobIds.includes(job.id))
    const measured = ended
      .filter((each) => isComparable(jobNumerics(each)))
      .flatMap(({ job }) => holdoutsOf(job))
    const missing = holdoutsOf(evaluation).filter(
      ({ sha256 }) =>
        !hasCell(comparable, version, sha256) && !measured.some((holdout) => holdout.sha256 === sha256),
    )
    const needsCheck = checkGeneration && ended.length === 0
    if (missing.length === 0 && !needsCheck) continue
    const queued = known.filter(({ id }) => jobIds.includes(id))
    const isOpen = queued.length > ended.length
    const id = jobIds[queued.length]
    // With nodes of more than two numerics the gate says that the masks cannot be compared.
    if (!isOpen && id === undefined) continue
    isComplete = false
    if (isOpen || id === undefined) continue
    const { model, windowTokens } = evaluation.payload as EvaluateJob
    const work = { mask, holdouts: missing, windowTokens, checkGeneration: needsCheck }
    jobs.push({
      work: { kind: 'evaluate', id, model, ...work },
      avoidNodes: candidate ? await nodesUnlike(deps, candidate) : avoidNodes,
    })
  }
  await queueJobs(deps, update, jobs)
  return isComplete
}

/** Returns the dense model and the parent of an update, if it has one. */
async function referencesOf(deps: Pick<StepDeps, 'db'>, update: UpdateRow): Promise<Reference[]> {
  const [generation, parent] = await Promise.all([
    findDenseGeneration(deps.db, update.model),
    update.parentVersion ? requireMask(deps, update, update.parentVersion) : undefined,
  ])
  const checkGeneration = generation === undefined
  const dense = { jobIds: evaluateDenseJobIds(update), version: 0, mask: null, checkGeneration }
  if (!parent) return [dense]
  const { version, sha256: mask } = parent
  return [dense, { jobIds: evaluateParentJobIds(update), version, mask, checkGeneration: false }]
}

/** Returns the evaluations of all masks on the holdouts of an evaluation job. */
export function listCellsOfJob(deps: Pick<StepDeps, 'db'>, job: JobRow): Promise<GateCell[]> {
  return listCells(deps, job, holdoutsOf(job))
}

function listCells(
  { db }: Pick<StepDeps, 'db'>,
  { model }: Pick<UpdateRow, 'model'>,
  holdouts: readonly DatasetRef[],
): Promise<GateCell[]> {
  return listCellsOn(
    db,
    model,
    holdouts.map(({ sha256 }) => sha256),
  )
}

/** Returns the holdouts of an evaluation job. */
export function holdoutsOf({ payload }: Pick<JobRow, 'payload'>): DatasetRef[] {
  return payload.kind === 'evaluate' ? payload.holdouts : []
}

/** The dense model's mean loss is enough, since nothing is compared with it window by window. */
function hasCell(cells: readonly GateCell[], version: number, sha256: string): boolean {
  return cells.some(
    (cell) =>
      cell.version === version && cell.holdoutSha256 === sha256 && (version === 0 || cell.windowNll !== null),
  )
}

/** Returns the node that selected the current candidate, as a list; empty for an imported mask. */
export async function selectingNodes(deps: Pick<StepDeps, 'db'>, update: UpdateRow): Promise<string[]> {
  const job = await findJob(deps.db, calibrateJobId(update))
  return job?.nodeId ? [job.nodeId] : []
}

async function requireMask(deps: Pick<StepDeps, 'db'>, update: UpdateRow, version: number): Promise<MaskRow> {
  const mask = await findMask(deps.db, update.model, version)
  if (mask) return mask
  throw new AppError('internal_error', `Mask m${version} of update ${update.id} is not registered.`)
}
