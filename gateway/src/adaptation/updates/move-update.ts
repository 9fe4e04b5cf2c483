import type { StepDeps, StepOutcome } from './update-step.ts'
import { type UpdateRow, changeUpdate } from '../../storage/db/queries/update-queries.ts'
import { nextState, hasEnded } from './update-states.ts'
import { failPromotion } from '../../storage/db/queries/mask-queries.ts'
import { cancelJobsOf } from '../../storage/db/queries/job-queries.ts'
import { deleteUnusedDatasets } from '../../storage/artifacts/datasets.ts'

/**
 * Moves an update to its next state. An update that fails or is cancelled loses its jobs, and its datasets unless
 * something else uses them.
 *
 * @returns false if the event does not apply in this state, or the update has changed meanwhile
 */
export async function moveUpdate(
  deps: Pick<StepDeps, 'db' | 'artifacts' | 'nowMs'>,
  update: UpdateRow,
  { event, patch, decision }: StepOutcome,
): Promise<boolean> {
  const state = nextState(update.state, event)
  if (state === undefined) return false
  const finishedAt = hasEnded(state) ? (update.finishedAt ?? deps.nowMs()) : null
  const change = { ...patch, state, finishedAt }
  const changed =
    update.state === 'promoting' && state === 'failed'
      ? await failPromotion(deps.db, update, change)
      : await changeUpdate(deps.db, update, change, decision && { ...decision, createdAt: deps.nowMs() })
  if (changed && (state === 'failed' || state === 'cancelled')) {
    await cancelJobsOf(deps.db, update.id)
    await deleteUnusedDatasets(deps, update.datasets ?? [])
  }
  return changed
}
