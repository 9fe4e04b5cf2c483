import type { UpdateState } from '@copal/shared/wire/admin.ts'

/** An event in the life of an update. */
export type UpdateEvent =
  /** Its datasets are frozen. */
  | 'collected'
  /** Its mask is registered. */
  | 'calibrated'
  /** The gate passed the mask, and another node must select it too. */
  | 'unconfirmed'
  /** The mask may serve a share of the traffic. */
  | 'canary_started'
  /** The mask may become active. */
  | 'approved'
  /** The gate rejected the mask, and another one is selected from the same statistics. */
  | 'reselected'
  /** An operator activates a mask that the gate rejected. */
  | 'forced'
  /** The mask is active, and nodes serve it. */
  | 'promoted'
  /** The mask served as a canary or was active, and was rolled back. */
  | 'rolled_back'
  /** A mask that was rolled back is active again. */
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
  evaluating: {
    ...WORKING,
    unconfirmed: 'confirming',
    canary_started: 'canary',
    approved: 'promoting',
    reselected: 'calibrating',
  },
  confirming: { ...WORKING, canary_started: 'canary', approved: 'promoting' },
  canary: { ...WORKING, approved: 'promoting', rolled_back: 'rolled_back' },
  // From here on the mask may be active. Once a node serves it, it can only be rolled back.
  promoting: { ...WORKING, promoted: 'promoted', rolled_back: 'rolled_back' },
  promoted: { rolled_back: 'rolled_back' },
  rolled_back: { reinstated: 'promoted' },
  failed: { forced: 'promoting' },
  cancelled: {},
}

/**
 * Returns the next state of an update. A pure function.
 *
 * @returns `undefined` if the event does not apply in this state: it came late or twice, and changes nothing
 */
export function nextState(state: UpdateState, event: UpdateEvent): UpdateState | undefined {
  return TRANSITIONS[state][event]
}

/** Returns whether an update in this state has ended. */
export function hasEnded(state: UpdateState): boolean {
  return ENDED.has(state)
}
