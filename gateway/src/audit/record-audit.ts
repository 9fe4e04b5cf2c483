import type { Deps } from '../contracts/bindings.ts'
import { insertPendingAudit } from '../storage/db/queries/audit-queries.ts'

/** A record of an action: what was done, by whom and why. It contains no secret and no text of a client. */
export interface AuditEntry {
  /** The id of an admin key, `key:<id>`, `node:<id>`, or `copal` for the service itself. */
  actor: string
  /** The action: `POST /admin/keys`, `node.taken_over`. */
  action: string
  /** The thing that it changed. */
  target: string
  before?: unknown
  after?: unknown
  reason?: string
  requestId?: string | undefined
}

/** Records what was done. The row is numbered and chained soon after, at the latest by the cron task. */
export async function recordAudit(deps: Pick<Deps, 'db' | 'nowMs'>, entry: AuditEntry): Promise<void> {
  await insertPendingAudit(deps.db, pendingRow(entry, deps.nowMs(), true))
}

/**
 * Records what is about to be done. Complete the row with `settlePendingAudit` afterwards.
 *
 * @returns the number of the pending row
 */
export async function announceAudit(deps: Pick<Deps, 'db' | 'nowMs'>, entry: AuditEntry): Promise<number> {
  return insertPendingAudit(deps.db, pendingRow(entry, deps.nowMs(), false))
}

function pendingRow(entry: AuditEntry, createdAt: number, settled: boolean) {
  const { actor, action, target, before = null, after = null, reason = '', requestId = null } = entry
  return { actor, action, target, before, after, reason, requestId, createdAt, settled }
}
