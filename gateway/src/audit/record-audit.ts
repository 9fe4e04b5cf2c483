import { hex } from '@copal/shared/wire/hmac.ts'
import type { Deps } from '../contracts/bindings.ts'
import { findLastAuditRow, insertAuditRow, type AuditRow } from '../storage/db/queries/audit-queries.ts'

/** What was done, by whom and why. It contains no secret and no text of a client. */
export interface AuditEntry {
  /** `operator`, the id of an admin key, `node:<id>`, or `copal` for the service itself. */
  actor: string
  /** What was done: `key.create`, `mask.promote`. */
  action: string
  /** What it was done to. */
  target: string
  before?: unknown
  after?: unknown
  reason?: string
  requestId?: string | undefined
}

/** The hash before that of the first row. */
export const FIRST_PREVIOUS_HASH = '0'.repeat(64)

/** Appends an entry to the audit log. Of two at the same time, one is numbered again. */
export async function recordAudit(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  { before, after, reason = '', requestId, ...entry }: AuditEntry,
): Promise<void> {
  for (;;) {
    const last = await findLastAuditRow(db)
    const row = {
      ...entry,
      id: (last?.id ?? 0) + 1,
      before: before ?? null,
      after: after ?? null,
      reason,
      requestId: requestId ?? null,
      createdAt: nowMs(),
      previousHash: last?.hash ?? FIRST_PREVIOUS_HASH,
    }
    if (await insertAuditRow(db, { ...row, hash: await auditHash(row) })) return
  }
}

/** Returns the SHA-256 of a row's fields and the hash of the row before, in hex. */
export async function auditHash(row: Omit<AuditRow, 'hash'>): Promise<string> {
  const { id, actor, action, target, before, after, reason, requestId, createdAt, previousHash } = row
  const fields = [id, actor, action, target, before, after, reason, requestId, createdAt, previousHash]
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(fields)))
  return hex(new Uint8Array(digest))
}
