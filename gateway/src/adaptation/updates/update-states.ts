import type { UpdateState } from '@copal/shared/wire/admin.ts'

/** What can happen to an update. */
export type UpdateEvent =
  /** Its datasets are frozen. */
  | 'collected'
  /** Its mask is registered. */
  | 'calibrated'
  /** The mask was evaluated on every holdout, and nothing speaks against it. */
  | 'evaluated'
  /** The mask is active and the nodes serve it. */
  | 'converged'
  /** The mask was active and was taken back. */
  | 'rolled_back'
  /** A mask that was taken back is active again. */
  | 'reinstated'
  | 'failed'
  | 'cancelled'

/** States that an update never leaves by itself. */
const ENDED: ReadonlySet<UpdateState> = new Set<UpdateState>([
  'promoted',
  'rolled_back',
  'failed',
  'cancelled',
])

const WORKING = { failed: 'failed', cancelled: 'cancelled' } as const

const TRANSITIONS: Record<UpdateState, Partial<Record<UpdateEvent, UpdateState>>> = {
  collecting: { ...WORKING, collected: 'calibrating' },
  calibrating: { ...WORKING, calibrated: 'evaluating' },
  evaluating: { ...WORKING, evaluated: 'promoting' },
  // From here on the mask may be active: it is not cancelled any more, but rolled back.
  promoting: { converged: 'promoted', rolled_back: 'rolled_back', failed: 'failed' },
  promoted: { rolled_back: 'rolled_back' },
  rolled_back: { reinstated: 'promoted' },
  failed: {},
  cancelled: {},
}

/**
 * The state machine of an update, without a clock or a store.
 *
 * @returns `undefined` when the event has no meaning in this state: it came late or twice, and changes nothing.
 */
export function nextState(state: UpdateState, event: UpdateEvent): UpdateState | undefined {
  return TRANSITIONS[state][event]
}

/** Whether an update in this state is over. */
export function hasEnded(state: UpdateState): boolean {
  return ENDED.has(state)
}
