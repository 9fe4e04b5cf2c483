/** The hashes that chain the rows of the audit log. Without schemas, because the dashboard verifies the chain too. */
import type { AuditEntry } from './admin-audit.ts'

/** The previous hash of the first row. */
export const FIRST_PREVIOUS_HASH = '0'.repeat(64)

/** Returns the SHA-256 of a row's fields and the hash of the row before, in hex. */
export async function auditHash(row: Omit<AuditEntry, 'hash' | 'sealed'>): Promise<string> {
  const { id, actor, action, target, before, after, reason, request_id, created_at, previous_hash } = row
  const fields = [id, actor, action, target, before, after, reason, request_id, created_at, previous_hash]
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(fields)))
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
