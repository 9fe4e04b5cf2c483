import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import { findUpdate, listRunningUpdates, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { calibrate } from './calibrate-step.ts'
import { collect } from './collect-step.ts'
import { deleteUnusedDatasets } from '../../storage/artifacts/datasets.ts'
import { evaluate } from './evaluate-step.ts'
import { promote } from './promote-step.ts'
import type { Step, StepDeps, StepOutcome } from './update-step.ts'
import { moveUpdate } from './move-update.ts'

const STEPS: Partial<Record<UpdateRow['state'], Step>> = {
  collecting: collect,
  calibrating: calibrate,
  evaluating: evaluate,
  promoting: promote,
}

/**
 * Advances an update until it ends or waits for nodes.
 *
 * The row in D1 is the truth and moves by compare-and-set only, so that anyone may call this at any time,
 * several at once: heartbeats, the workflow, cron. Who loses a race reads again. An AppError ends the update;
 * anything else is a fault of the moment, is thrown, and the next call tries again.
 *
 * @returns the update as it is then, or undefined when there is none of this id.
 */
export async function advanceUpdate(deps: StepDeps, updateId: string): Promise<UpdateRow | undefined> {
  for (;;) {
    const update = await findUpdate(deps.db, updateId)
    const step = update && STEPS[update.state]
    if (!update || !step) return update
    const outcome = await attempt(deps, update, step)
    if (!outcome) return update
    const moved = await moveUpdate(deps, update, outcome)
    if (!moved) await deleteUnusedDatasets(deps, outcome.patch.datasets ?? [])
  }
}

/** Advances every update that has not ended; of one model, or of all. Faults are logged and tried again next time. */
export async function advanceUpdates(deps: StepDeps, onlyModel?: string): Promise<void> {
  for (const { id, state } of await listRunningUpdates(deps.db, onlyModel)) {
    try {
      await advanceUpdate(deps, id)
    } catch (error) {
      console.error(`Update ${id} is still ${state}; its next step failed and will be tried again:`, error)
    }
  }
}

async function attempt(deps: StepDeps, update: UpdateRow, step: Step): Promise<StepOutcome | undefined> {
  try {
    return await step(deps, update)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const { code, message } = error
    return { event: 'failed', patch: { errorCode: code satisfies ErrorCode, errorMessage: message } }
  }
}
