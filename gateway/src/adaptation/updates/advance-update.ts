import { isCallsUsedUp } from '../../calls/call-budget.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import { findUpdate, listRunningUpdates, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { canary } from './canary-step.ts'
import { calibrateStep } from './calibrate-step.ts'
import { collect } from './collect-step.ts'
import { confirm } from './confirm-step.ts'
import { deleteUnusedDatasets } from '../../storage/artifacts/datasets.ts'
import { keepsTexts, releaseTexts, releaseUncollected } from '../statistics/release-texts.ts'
import { evaluateStep } from './evaluate-step.ts'
import { promote } from './promote-step.ts'
import { stepOfJobs } from './update-jobs.ts'
import type { Step, StepDeps, StepOutcome } from './update-step.ts'
import { moveUpdate } from './move-update.ts'

/** The steps of an update, in order. Each is in a file of its own and leads to the next state of `update-states.ts`. */
const STEPS: Partial<Record<UpdateRow['state'], Step>> = {
  collecting: collect,
  calibrating: stepOfJobs(calibrateStep),
  evaluating: stepOfJobs(evaluateStep),
  confirming: confirm,
  canary,
  promoting: promote,
}

/**
 * Advances an update until it ends or waits for nodes.
 *
 * The row in D1 is the source of truth and changes only by compare-and-set, so heartbeats, the workflow and cron may call
 * this concurrently: the loser of a race reads the row again. An AppError ends the update. Any other error is considered
 * temporary: it is thrown, and the next call tries again.
 *
 * @param known the update as it was read just now, if it was
 * @returns the update afterwards, or undefined for an unknown id
 */
export async function advanceUpdate(
  deps: StepDeps,
  updateId: string,
  known?: UpdateRow,
): Promise<UpdateRow | undefined> {
  for (let moved = known; ;) {
    const update: UpdateRow | undefined = moved ?? (await findUpdate(deps.db, updateId))
    const step = update && STEPS[update.state]
    if (!update || !step) return update
    const outcome = await attempt(deps, update, step)
    if (!outcome) return update
    moved = await moveUpdate(deps, update, outcome)
    if (!moved) await discard(deps, updateId, outcome)
  }
}

/**
 * Advances every running update of one model, or of all models. Errors are logged, and the next call tries again.
 *
 * @returns whether one has moved to another state
 */
export async function advanceUpdates(deps: StepDeps, onlyModel?: string): Promise<boolean> {
  let hasMoved = false
  for (const update of inRandomOrder(await listRunningUpdates(deps.db, onlyModel))) {
    const { id, state, revision } = update
    try {
      // A model has one; the steps of others may have taken minutes.
      const now = await advanceUpdate(deps, id, onlyModel === undefined ? undefined : update)
      hasMoved ||= now?.revision !== revision
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The next step of update ${id} (${state}) failed and will be retried:`, error)
    }
  }
  return hasMoved
}

/** Undoes what a step has taken for an update that ended, or moved on without it, meanwhile. */
async function discard(deps: StepDeps, updateId: string, { event, patch }: StepOutcome): Promise<void> {
  if (event !== 'collected') return
  const update = await findUpdate(deps.db, updateId)
  if (update && update.finishedAt === null) await releaseUncollected(deps, update)
  else if (update && !keepsTexts(update)) await releaseTexts(deps, update)
  await deleteUnusedDatasets(deps, patch.datasets ?? [])
}

async function attempt(deps: StepDeps, update: UpdateRow, step: Step): Promise<StepOutcome | undefined> {
  try {
    return await step(deps, update)
  } catch (error) {
    if (!(error instanceof AppError) || isCallsUsedUp(error)) throw error
    const { code, message } = error
    return { event: 'failed', patch: { errorCode: code satisfies ErrorCode, errorMessage: message } }
  }
}
