/** Words for the state of an update, in the dashboard and on the command line. */
import type { UpdateEntry, UpdateState } from './admin.ts'

/** States of an update, after `is` or `was`. */
export const UPDATE_STATES: Readonly<Record<UpdateState, string>> = {
  collecting: 'collecting',
  calibrating: 'calibrating',
  evaluating: 'at the gate',
  confirming: 'confirming',
  canary: 'in the canary',
  promoting: 'rolling out',
  promoted: 'promoted',
  rolled_back: 'rolled back',
  failed: 'failed',
  cancelled: 'cancelled',
}

/** Tells that the gate or the confirmation rejected the mask of an update. */
export function isRejected(update: { state: string; error: { code: string } | null }): boolean {
  return update.state === 'failed' && update.error?.code === 'gate_failed'
}

/** The state of an update in words; a failure at the gate or in the confirmation is a rejection. */
export function updateStateWord(update: Pick<UpdateEntry, 'state' | 'error'>): string {
  return isRejected(update) ? 'rejected' : UPDATE_STATES[update.state]
}
