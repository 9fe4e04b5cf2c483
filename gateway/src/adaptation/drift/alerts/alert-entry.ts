import type { AlertEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'

/** Describes an alert for the admin API. */
export function alertEntry({
  id,
  kind,
  model,
  domain,
  maskVersion,
  nodeId,
  message,
  ...times
}: AlertRow): AlertEntry {
  return {
    id,
    kind,
    model,
    domain,
    mask_version: maskVersion,
    node: nodeId,
    message,
    raised_at: new Date(times.raisedAt).toISOString(),
    ended_at: times.endedAt === null ? null : new Date(times.endedAt).toISOString(),
  }
}
