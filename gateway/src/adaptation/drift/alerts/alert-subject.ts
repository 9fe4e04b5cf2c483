import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'

/** The contents of a new alert. */
export type NewAlert = Pick<AlertRow, 'kind' | 'model' | 'message' | 'reference' | 'level'> &
  Partial<Pick<AlertRow, 'domain' | 'maskVersion' | 'nodeId'>>

/** Creates an alert that holds from now on. */
export function createAlert(alert: NewAlert, nowMs: number): AlertRow {
  const { kind, domain = null, maskVersion = null, nodeId = null } = alert
  return {
    ...alert,
    id: `alert_${crypto.randomUUID().replaceAll('-', '')}`,
    domain,
    maskVersion,
    nodeId,
    subject: alertSubject(kind, nodeId ?? domain ?? '', maskVersion),
    raisedAt: nowMs,
    endedAt: null,
  }
}

/** Returns what an alert is about; at most one alert of each kind and subject holds at a time. Changed traffic has no mask. */
export function alertSubject(kind: AlertKind, name: string, maskVersion: number | null): string {
  return kind === 'input_drift' ? name : `${name} m${maskVersion ?? 0}`
}
