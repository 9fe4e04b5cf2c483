import { DAY_MS } from '@copal/shared/day.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { hmac } from '@copal/shared/wire/hmac.ts'
import type { Deps } from '../contracts/bindings.ts'
import {
  appendAuditRows,
  deleteAuditRows,
  findLastAuditRow,
  findRetentionEnd,
  readEndOfAudit,
  type AuditRow,
  type PendingAuditRow,
} from '../storage/db/queries/audit-queries.ts'

type ChainDeps = Pick<Deps, 'calls' | 'db' | 'nowMs' | 'keyPepper'>

/** After this time an action without a result is recorded as one whose end is unknown. */
const ABANDONED_MS = 5 * 60_000
/** Rows that are appended at once, and how often that is done at most. */
const ROWS_PER_APPEND = 80
const MAX_APPENDS = 15
/** Statements of an append: it reads the last row and the pending ones, and writes eight rows by each statement. */
export const APPEND_CALLS = 14
const ROWS_PER_DELETION = 500
const MAX_DELETIONS = 10
/** Statements of a deletion: it finds its end, stores a checkpoint and deletes. */
const DELETION_CALLS = 3

/**
 * Appends the pending rows to the chain. Any number of isolates may do so at the same time: the rows of only one get the next
 * numbers, and in the same transaction the pending rows that they are made of go, so each is appended exactly once.
 */
export async function appendPendingAudit(deps: ChainDeps): Promise<void> {
  for (let append = 0; append < MAX_APPENDS && deps.calls.left >= APPEND_CALLS; append += 1) {
    const abandonedMs = deps.nowMs() - ABANDONED_MS
    const { last, pending } = await readEndOfAudit(deps.db, abandonedMs, ROWS_PER_APPEND)
    if (pending.length === 0) return
    const rows = await chain(deps, last, pending)
    try {
      await appendAuditRows(
        deps.db,
        rows,
        pending.map(({ id }) => id),
      )
      // That was all: who completes a row from now on appends it.
      if (pending.length < ROWS_PER_APPEND) return
    } catch (error) {
      // Another isolate took the numbers.
      if ((await findLastAuditRow(deps.db))?.id === last?.id) throw error
    }
  }
}

/**
 * Deletes the days (UTC) that are older than the retention, and keeps the hash of the last row as checkpoint. By days, because
 * checkpoints stay for good and each run would leave one.
 */
export async function deleteOldAudit(deps: ChainDeps & Pick<Deps, 'auditDays'>): Promise<void> {
  if (deps.auditDays === 0) return
  const nowMs = deps.nowMs()
  const beforeMs = Math.floor(nowMs / DAY_MS - deps.auditDays) * DAY_MS
  for (let deletion = 0; deletion < MAX_DELETIONS && deps.calls.left >= DELETION_CALLS; deletion += 1) {
    const end = await findRetentionEnd(deps.db, beforeMs, ROWS_PER_DELETION)
    if (!end) return
    const { id, hash } = end
    const seal = await checkpointSeal(deps.keyPepper, id, hash)
    await deleteAuditRows(deps.db, { id, hash, seal, createdAt: nowMs })
  }
}

/** Returns the seal of a row: without the pepper, who can write to the database cannot write a row that has one. */
export function auditSeal(keyPepper: string, hash: string): Promise<string> {
  return hmac(keyPepper, `copal audit row ${hash}`)
}

/** Returns the seal of a checkpoint. */
export function checkpointSeal(keyPepper: string, id: number, hash: string): Promise<string> {
  return hmac(keyPepper, `copal audit checkpoint ${id} ${hash}`)
}

async function chain(
  { keyPepper }: ChainDeps,
  last: AuditRow | undefined,
  pending: readonly PendingAuditRow[],
): Promise<AuditRow[]> {
  const rows: AuditRow[] = []
  let previousHash = last?.hash ?? FIRST_PREVIOUS_HASH
  let id = last?.id ?? 0
  for (const { settled, id: _, ...fields } of pending) {
    id += 1
    const row = { ...fields, id, previousHash, after: settled ? fields.after : { outcome: 'unknown' } }
    const { requestId: request_id, createdAt: created_at } = row
    const hash = await auditHash({ ...row, request_id, created_at, previous_hash: previousHash })
    rows.push({ ...row, hash, seal: await auditSeal(keyPepper, hash) })
    previousHash = hash
  }
  return rows
}
