import { DAY_MS } from '@copal/shared/day.ts'
import type { Deps } from '../contracts/bindings.ts'
import { inRandomOrder } from '../runtime/random-order.ts'
import { countDeleted } from './db/queries/metric-count-queries.ts'
import { deletePeriods, deleteUnusedNames, type PeriodWidth } from './db/queries/period-queries.ts'
import { deleteReceipts, findReceiptTime, moveReceiptHorizon } from './db/queries/receipt-queries.ts'
import { deleteRequestDomains } from './db/queries/request-domain-queries.ts'
import { deleteShadowPeriods, deleteShadowScores, findScoreTime } from './db/queries/shadow-score-queries.ts'
import { deleteTombstones } from './db/queries/tombstone-queries.ts'
import { deleteUsageDays } from './db/queries/usage-day-queries.ts'

/** Days that shadow scores are kept, as long as samples. */
const SCORE_DAYS = 30

/** Shadow scores that are kept at most, of all trials: 1.2 GB. A trial is judged by its first 5,000 that are left. */
const MAX_SCORES = 5_000_000

/** Days that deletions of samples are remembered; queues keep their messages for at most 14. */
const TOMBSTONE_DAYS = 30

/** Days that usage days are kept: this month and the previous one. */
const USAGE_DAYS = 62

/** Bounds of a run: a statement takes some tens of milliseconds, and the database must stay free for other queries. */
const ROWS_PER_STATEMENT = 2_000
/** Deletions of receipts of a run at most: enough for 1,333 requests a second. */
const MAX_RECEIPT_STATEMENTS = 200
/** Statements of one deletion: it finds where it ends, and deletes. */
const RECEIPT_CALLS = 2
/** Statements that a run deletes periods of one width, scores or found domains by at most. */
const MAX_STATEMENTS = 50
/** How long after the longest response its receipt may come: it waits for its score, and for the gateway. */
const LATE_RECEIPT_MS = 10 * 60_000
/** Pause between statements, in which the database serves other queries: without it, receipts waited for the whole run. */
const PAUSE_MS = 10

/** Days after which no receipt is corrected any more: nodes send theirs again for a week. */
const CORRECTION_DAYS = 8

/**
 * Deletes old shadow scores, and the oldest where there are too many, and found domains of requests a day later, when their receipts
 * and scores have arrived.
 */
export async function deleteOldScores(
  deps: Pick<Deps, 'calls' | 'db' | 'nowMs'>,
  maxScores = MAX_SCORES,
): Promise<void> {
  const { db, nowMs } = deps
  const oldMs = nowMs() - SCORE_DAYS * DAY_MS
  const beforeMs = Math.max(oldMs, (await findScoreTime(db, maxScores)) ?? 0)
  const deleted = await deleteInPieces(deps, (limit) => deleteShadowScores(db, beforeMs, limit))
  await countDeleted(db, 'score', deleted)
  await deleteShadowPeriods(db, oldMs)
  await deleteInPieces(deps, (limit) => deleteRequestDomains(db, nowMs() - DAY_MS, limit))
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
 * Deletes old receipts, and the oldest ones where there are too many, because a D1 database holds 10 GB. Totals, usage days and
 * periods keep what `/metrics`, drift, series and budgets need of them. A run deletes at most 400,000. However many there are,
 * those stay that were stored while requests of now may have begun: the receipts of these would be taken for counted ones.
 */
export async function deleteOldReceipts(
  deps: Pick<Deps, 'calls' | 'db' | 'nowMs' | 'receiptDays' | 'maxReceipts'> & {
    policy: Pick<Deps['policy'], 'totalMs'>
  },
): Promise<void> {
  const { calls, db, nowMs, receiptDays, maxReceipts, policy } = deps
  const tooMany = maxReceipts === 0 ? undefined : await findReceiptTime(db, maxReceipts)
  const beforeMs = Math.min(
    Math.max(tooMany ?? 0, receiptDays === 0 ? 0 : nowMs() - receiptDays * DAY_MS),
    nowMs() - policy.totalMs - LATE_RECEIPT_MS,
  )
  if (beforeMs <= 0) return
  // First, so that no receipt which is delivered again counts again in between.
  await moveReceiptHorizon(db, beforeMs)
  let [after, deletedInAll] = [0, 0]
  for (let statement = 0; statement < MAX_RECEIPT_STATEMENTS && calls.left > RECEIPT_CALLS; statement += 1) {
    const { examined, deleted, last } = await deleteReceipts(db, {
      beforeMs,
      after,
      limit: ROWS_PER_STATEMENT,
    })
    deletedInAll += deleted
    if (deleted === 0 || examined < ROWS_PER_STATEMENT) break
    await pause()
    after = last
  }
  await countDeleted(db, 'receipt', deletedInAll)
}

/** Deletes periods that are older than their widths are kept, and the names of domains that have none. */
export async function deleteOldPeriods(
  deps: Pick<Deps, 'calls' | 'db' | 'nowMs' | 'seriesDays'>,
): Promise<void> {
  const { db, nowMs, seriesDays } = deps
  const keptDays: [PeriodWidth, number][] = [
    [60, seriesDays.minutes],
    [300, seriesDays.minutes],
    [3_600, seriesDays.hours],
    [86_400, seriesDays.days],
  ]
  // In random order, so that a run whose calls are used up by one width deletes those of another the next time.
  for (const [width, days] of inRandomOrder(keptDays)) {
    if (days === 0) continue
    const before = Math.floor((nowMs() - days * DAY_MS) / 1000)
    await deleteInPieces(deps, (limit) => deletePeriods(db, { width, before }, limit))
  }
  await deleteUnusedNames(db, nowMs() - CORRECTION_DAYS * DAY_MS)
}

/**
 * Deletes rows by as many statements as a run may make, so that none takes long however many there are.
 *
 * @param deleteSome deletes at most a number of rows
 * @returns how many were deleted
 */
async function deleteInPieces(
  { calls }: Pick<Deps, 'calls'>,
  deleteSome: (limit: number) => Promise<number>,
): Promise<number> {
  let deleted = 0
  for (let statement = 0; statement < MAX_STATEMENTS && calls.left > 1; statement += 1) {
    const rows = await deleteSome(ROWS_PER_STATEMENT)
    deleted += rows
    if (rows < ROWS_PER_STATEMENT) break
    await pause()
  }
  return deleted
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
}
