import type { Deps } from '../contracts/bindings.ts'
import { deleteReceipts } from './db/queries/receipt-queries.ts'
import { deleteRequestDomains } from './db/queries/request-domain-queries.ts'
import { deleteShadowScores } from './db/queries/shadow-score-queries.ts'
import { deleteTombstones } from './db/queries/tombstone-queries.ts'
import { DAY_MS, deleteUsageDays } from './db/queries/usage-day-queries.ts'

/** Days that shadow scores are kept, as long as samples. */
const SCORE_DAYS = 30

/** Days that deletions of samples are remembered; queues keep their messages for at most 14. */
const TOMBSTONE_DAYS = 30

/** Days that usage days are kept: this month and the previous one. */
const USAGE_DAYS = 62

/** Bounds of a run: a statement takes some tens of milliseconds, and the database must stay free for other queries. */
const RECEIPTS_PER_STATEMENT = 2_000
const MAX_STATEMENTS = 50

/** Deletes old shadow scores, and found domains of requests a day later, when their receipts and scores have arrived. */
export async function deleteOldScores(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteShadowScores(deps.db, deps.nowMs() - SCORE_DAYS * DAY_MS)
  await deleteRequestDomains(deps.db, deps.nowMs() - DAY_MS)
}

/** Deletes the records of deletions that no queued sample can be older than. */
export async function deleteOldTombstones(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteTombstones(deps.db, deps.nowMs() - TOMBSTONE_DAYS * DAY_MS)
}

/** Deletes usage days of months that no budget needs any more. */
export async function deleteOldUsageDays(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteUsageDays(deps.db, deps.nowMs() - USAGE_DAYS * DAY_MS)
}

/**
 * Deletes old receipts, because a D1 database holds about thirty million. Totals and usage days keep what `/metrics`, drift
 * and budgets need of them. A run deletes at most 100,000.
 */
export async function deleteOldReceipts(deps: Pick<Deps, 'db' | 'nowMs' | 'receiptDays'>): Promise<void> {
  const { db, nowMs, receiptDays } = deps
  if (receiptDays === 0) return
  const beforeMs = nowMs() - receiptDays * DAY_MS
  for (let statement = 0; statement < MAX_STATEMENTS; statement += 1)
    if ((await deleteReceipts(db, beforeMs, RECEIPTS_PER_STATEMENT)) < RECEIPTS_PER_STATEMENT) return
}
