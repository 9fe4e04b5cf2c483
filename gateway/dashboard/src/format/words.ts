/** Words for states of the API. */
import type { UpdateEntry, UpdateState } from '@copal/shared/wire/admin.ts'
import type { DecisionKind, DecisionVerdict } from '@copal/shared/wire/admin-decisions.ts'
import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import { isRejected, UPDATE_STATES } from '@copal/shared/wire/update-states.ts'

export { isRejected }

/** How an update ended, after its name; who rejected its mask is known from its decisions, which lists leave out. */
export function endOfUpdate(update: Pick<UpdateEntry, 'state' | 'error' | 'decisions'>): string {
  if (isRejected(update)) {
    const kind = update.decisions?.findLast(({ verdict }) => verdict === 'failed')?.kind
    return `was rejected${kind === 'confirm' ? ' in the confirmation' : kind ? ' by the gate' : ''}`
  }
  return update.state === 'failed' ? 'failed' : `was ${UPDATE_STATES[update.state]}`
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

/** Outcomes of decisions. */
const DECISION_VERDICTS: Readonly<Record<DecisionVerdict, string>> = {
  passed: 'passed',
  failed: 'failed',
  retried: 'rejected, tried again',
  done: 'done',
  dry_run: 'dry run',
}

/** The outcome of a decision, after its name. A gate that fails a mask has not failed itself. */
export function verdictOf({ kind, verdict }: { kind: DecisionKind; verdict: DecisionVerdict }): string {
  return kind === 'gate' && verdict === 'failed' ? 'rejected' : DECISION_VERDICTS[verdict]
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
