import type { Deps } from '../contracts/bindings.ts'
import { deleteReceipts } from './db/queries/receipt-queries.ts'
import { deleteShadowScores } from './db/queries/shadow-score-queries.ts'
import { DAY_MS, deleteDays } from './db/queries/usage-day-queries.ts'

/** As long as samples. */
const SCORE_DAYS = 30

/** This month and the one before. */
const USAGE_DAYS = 62

/** A statement takes some tens of milliseconds, and a run leaves the database to others. */
const RECEIPTS_AT_ONCE = 2_000
const STATEMENTS = 50

/** Deletes the scores of shadows that nobody asks for any more. */
export async function deleteOldScores(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteShadowScores(deps.db, deps.nowMs() - SCORE_DAYS * DAY_MS)
}

/** Deletes the days of months that no budget is of any more. */
export async function deleteOldDays(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteDays(deps.db, deps.nowMs() - USAGE_DAYS * DAY_MS)
}

/**
 * Deletes receipts whose time is over: a database of D1 holds some thirty million. What `/metrics`, drift and budgets
 * tell of them is kept in totals and days. A run deletes 100,000 at most.
 */
export async function deleteOldReceipts(deps: Pick<Deps, 'db' | 'nowMs' | 'receiptDays'>): Promise<void> {
  const { db, nowMs, receiptDays } = deps
  if (receiptDays === 0) return
  const beforeMs = nowMs() - receiptDays * DAY_MS
  for (let statement = 0; statement < STATEMENTS; statement += 1)
    if ((await deleteReceipts(db, beforeMs, RECEIPTS_AT_ONCE)) < RECEIPTS_AT_ONCE) return
}
