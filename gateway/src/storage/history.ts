import { DAY_MS } from '@copal/shared/day.ts'
import type { Deps } from '../contracts/bindings.ts'
import { deleteHistory, HISTORY_RECORDS } from './db/queries/history-queries.ts'
import { countDeleted } from './db/queries/metric-count-queries.ts'
import { turnAt } from './artifacts/shards.ts'

/** Bounds of a run: a statement takes some tens of milliseconds, and the database must stay free for other queries. */
const ROWS_PER_STATEMENT = 500
const MAX_STATEMENTS = 10

/**
 * Deletes old records of updates, and old revoked keys, of which nothing is needed any more: one kind in each run, in turn. Of what
 * was decided and done the audit log has a row, as long as that is kept.
 */
export async function deleteOldHistory(
  deps: Pick<Deps, 'calls' | 'db' | 'nowMs' | 'historyDays'>,
): Promise<void> {
  const { calls, db, nowMs, historyDays } = deps
  const kind = HISTORY_RECORDS[turnAt(nowMs(), HISTORY_RECORDS.length)]
  if (historyDays === 0 || kind === undefined) return
  const bounds = {
    beforeMs: nowMs() - historyDays * DAY_MS,
    sweptBeforeMs: nowMs() - 2 * DAY_MS,
    limit: ROWS_PER_STATEMENT,
  }
  let deleted = 0
  // The last call counts what was deleted.
  for (let statement = 0; statement < MAX_STATEMENTS && calls.left > 1; statement += 1) {
    const rows = await deleteHistory(db, kind, bounds)
    deleted += rows
    if (rows < ROWS_PER_STATEMENT) break
  }
  await countDeleted(db, kind, deleted)
}
