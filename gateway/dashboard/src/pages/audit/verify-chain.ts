/** Checks in the browser that the audit log is as it was written, as `copal audit verify` does. */
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'

/** Result of a check. */
export type ChainCheck =
  | { sound: true; rows: number; last: string | null }
  | { sound: false; rows: number; brokenAt: number; what: string }

/**
 * Reads the whole log and recomputes its hashes.
 *
 * @param readPage returns the rows after an id
 * @param onProgress told the number of rows that were checked, after each page
 */
export async function verifyChain(
  readPage: (after: number) => Promise<AuditPage>,
  onProgress: (rows: number) => void = () => undefined,
): Promise<ChainCheck> {
  let last: { id: number; hash: string } | undefined
  let rows = 0
  const broken = (brokenAt: number, what: string): ChainCheck => ({ sound: false, rows, brokenAt, what })
  for (let after: number | null = 0; after !== null;) {
    const { data, checkpoint, next_after: next }: AuditPage = await readPage(after)
    if (last === undefined && checkpoint !== null) {
      if (!checkpoint.sealed) return broken(checkpoint.id, 'its checkpoint was not written by the gateway')
      last = checkpoint
    }
    for (const row of data) {
      const before = last ?? { id: 0, hash: FIRST_PREVIOUS_HASH }
      const problem = await problemOf(row, before)
      if (problem !== undefined) return broken(row.id === before.id + 1 ? row.id : before.id + 1, problem)
      last = row
      rows += 1
    }
    onProgress(rows)
    after = next
  }
  return { sound: true, rows, last: last === undefined ? null : `${last.id}:${last.hash}` }
}

async function problemOf(row: AuditEntry, before: { id: number; hash: string }): Promise<string | undefined> {
  if (row.id !== before.id + 1) return `it is missing; row ${row.id} follows`
  if (row.previous_hash !== before.hash) return 'it does not follow from the row before'
  if (row.hash !== (await auditHash(row))) return 'it was changed'
  return row.sealed ? undefined : 'it was not written by the gateway'
}
