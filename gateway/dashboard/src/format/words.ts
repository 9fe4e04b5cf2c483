/** Words for states of the API. */
import type { UpdateState } from '@copal/shared/wire/admin.ts'
import type { DecisionKind, DecisionVerdict } from '@copal/shared/wire/admin-decisions.ts'
import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'

/** States of an update, after `is` or `was`. */
export const UPDATE_STATES: Readonly<Record<UpdateState, string>> = {
  collecting: 'collecting texts',
  calibrating: 'calibrating',
  evaluating: 'being evaluated',
  confirming: 'being confirmed',
  canary: 'in canary',
  promoting: 'being promoted',
  promoted: 'promoted',
  rolled_back: 'rolled back',
  failed: 'failed',
  cancelled: 'cancelled',
}

/** Tells that an update does not run any more. */
export function hasEnded({ state }: { state: UpdateState }): boolean {
  return ['promoted', 'rolled_back', 'failed', 'cancelled'].includes(state)
}

/** Names of decisions. */
export const DECISION_KINDS: Readonly<Record<DecisionKind, string>> = {
  trigger: 'Update started',
  gate: 'Gate',
  confirm: 'Confirmation',
  canary: 'Canary',
  watch: 'Watch',
  force: 'Forced',
  promote: 'Promoted',
  roll_back: 'Rolled back',
  own_mask: 'Own mask',
  policy: 'Policy changed',
}

/** Outcomes of decisions, after their names. */
export const DECISION_VERDICTS: Readonly<Record<DecisionVerdict, string>> = {
  passed: 'passed',
  failed: 'failed',
  retried: 'rejected, tried again',
  done: 'done',
  dry_run: 'dry run',
}

/** The name under which the API lists the general holdout beside domains. */
export const GENERAL = '(general)'

/** Names a column of the R matrix or a figure of the gate: a domain, or the general holdout. */
export function holdoutName(domain: string): string {
  return domain === GENERAL ? 'general text' : domain
}

/** Names of alerts. */
export const ALERT_KINDS: Readonly<Record<AlertKind, string>> = {
  input_drift: 'Traffic changed',
  gap_drift: 'Pruning costs more',
  probe_mismatch: 'A node may be damaged',
}
