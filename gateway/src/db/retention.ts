import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../deps.ts'
import { deleteReceipts } from './queries/receipts.ts'
import { deleteShadowScores } from './queries/shadow-scores.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** As long as samples. */
const SCORE_DAYS = 30

/** What keys and tenants have used of a month is counted from them. */
const LEAST_RECEIPT_DAYS = 32
/** A statement takes some tens of milliseconds, and a run leaves the database to others. */
const RECEIPTS_AT_ONCE = 2_000
const STATEMENTS = 50

/** Deletes the scores of shadows that nobody asks for any more. */
export async function deleteOldScores(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteShadowScores(deps.db, deps.nowMs() - SCORE_DAYS * DAY_MS)
}

/**
 * Deletes receipts whose time is over: a database of D1 holds some thirty million. What `/metrics` and drift tell of them
 * is kept in totals. A run deletes 100,000 at most.
 *
 * @throws AppError `internal_error` for fewer days than a month's budgets need
 */
export async function deleteOldReceipts(deps: Pick<Deps, 'db' | 'nowMs' | 'receiptDays'>): Promise<void> {
  const { db, nowMs, receiptDays } = deps
  if (receiptDays === 0) return
  if (receiptDays < LEAST_RECEIPT_DAYS) {
    throw new AppError(
      'internal_error',
      `The gateway is not configured: the variable COPAL_RECEIPT_DAYS is '${receiptDays}'; receipts are needed for ` +
        `${LEAST_RECEIPT_DAYS} days, for monthly budgets. Set it to 0 to keep all.`,
    )
  }
  const beforeMs = nowMs() - receiptDays * DAY_MS
  for (let statement = 0; statement < STATEMENTS; statement += 1)
    if ((await deleteReceipts(db, beforeMs, RECEIPTS_AT_ONCE)) < RECEIPTS_AT_ONCE) return
}
