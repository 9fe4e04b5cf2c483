import type { StepDeps, StepOutcome } from './update-step.ts'
import { type UpdateRow, changeUpdate } from '../../storage/db/queries/update-queries.ts'
import { nextState, hasEnded } from './update-states.ts'
import { revertPromotion } from '../../storage/db/queries/mask-queries.ts'
import { endCanary } from '../../storage/db/queries/trial-queries.ts'
import { cancelJobsOf } from '../../storage/db/queries/job-queries.ts'
import { keepsTexts, releaseFrozenTexts } from '../statistics/release-texts.ts'
import { updateSpans } from './update-spans.ts'

/**
 * Moves an update to its next state. An update that ends without promotion loses its jobs and datasets and gives its texts
 * back; if the gate rejected its mask, it keeps both for an operator who forces it, until the next update of the model. One
 * that makes a mask for a single domain always gives its texts back. An update that leaves the state `canary` ends its trials.
 *
 * @returns the update afterwards; undefined if the event does not apply in this state, or the update has changed meanwhile
 */
export async function moveUpdate(
  deps: Pick<StepDeps, 'db' | 'artifacts' | 'reservoir' | 'nowMs' | 'telemetry' | 'waitUntil'>,
  update: UpdateRow,
  { event, patch, decision }: StepOutcome,
): Promise<UpdateRow | undefined> {
  const state = nextState(update.state, event)
  if (state === undefined) return undefined
  const nowMs = deps.nowMs()
  const finishedAt = hasEnded(state) ? (update.finishedAt ?? nowMs) : null
  const isUndone = state === 'failed' || state === 'cancelled'
  const endedIn = isUndone ? update.state : null
  const change = { ...patch, state, stateSince: nowMs, finishedAt, endedIn }
  const stored = decision && { ...decision, createdAt: nowMs }
  const before =
    update.state === 'promoting' && isUndone
      ? revertPromotion(deps.db, update)
      : update.state === 'canary'
        ? endCanary(deps.db, update, change)
        : []
  const changed = await changeUpdate(deps.db, update, change, stored, before)
  // Before what may use up the calls of the event.
  if (changed) deps.telemetry.sendEnded(deps, await updateSpans(update, { event, ...change }))
  if (changed && (isUndone || state === 'rolled_back')) {
    await cancelJobsOf(deps.db, update.id)
    // Another call may have frozen datasets for it until it moved.
    if (!keepsTexts({ ...patch, ownDomain: update.ownDomain })) await releaseFrozenTexts(deps, changed)
  }
  // They are for the next shared mask too.
  if (changed && state === 'promoted' && update.ownDomain !== null) await releaseFrozenTexts(deps, update)
  return changed
}
