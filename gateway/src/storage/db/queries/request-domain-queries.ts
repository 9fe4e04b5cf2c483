import { sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { receipts, requestDomains, shadowScores } from '../schema/usage.ts'
import { firstAttempt } from './found-domain-sql.ts'
import { addChangesToPeriods } from './period-changes.ts'
import { namePeriodDomains } from './period-domains.ts'
import { jsonColumns } from './json-columns.ts'
import { movedReceipts } from './receipt-changes.ts'
import { addToShadowPeriods, scoreColumns } from './shadow-periods.ts'
import { addChangesToTotals } from './usage-total-queries.ts'

/** Attempts of a request whose records may have been stored before its domain was found. */
const MAX_ATTEMPTS = 8

/** The domain that was found for a request. */
export interface FoundDomain {
  requestId: string
  domain: string
}

/**
 * Stores the domains that were found for requests; the first one of a request stays. What is settled later is counted under
 * it. Receipts and scores that are stored already get it, and their sums move to it: once, however often this is called, since
 * receipts that have the domain are not moved. An estimate does not move; the receipt that replaces it has the domain.
 */
export async function storeRequestDomains(
  db: Database,
  found: readonly FoundDomain[],
  nowMs: number,
): Promise<void> {
  if (found.length === 0) return
  const json = JSON.stringify(found)
  const attempts = JSON.stringify(
    found.flatMap(({ requestId }) =>
      Array.from({ length: MAX_ATTEMPTS }, (_, index) =>
        index === 0 ? requestId : `${requestId}.${index + 1}`,
      ),
    ),
  )
  const isOfBatch = sql`request_id in (select value from json_each(${attempts}))`
  const domainIn = (table: 'receipts' | 'shadow_scores') =>
    sql`(select domain from request_domains where request_id = ${firstAttempt(sql.raw(`${table}.request_id`))})`
  const moving = sql`select *, ${domainIn('receipts')} found from receipts
      where ${isOfBatch} and not estimated and finish_reason <> 'superseded' and domain <> ${domainIn('receipts')}`
  const moved = movedReceipts(moving)
  const isMoving = sql`${isOfBatch} and domain <> ${domainIn('shadow_scores')}`
  const movingScores = sql`select *, ${domainIn('shadow_scores')} found from shadow_scores where ${isMoving}`
  const movedScores = sql`
    select -1 sign, 1 moved, ${scoreColumns()} from (${movingScores})
    union all
    select 1, 1, ${scoreColumns('found')} from (${movingScores})`
  const named = sql`
    select model, found domain from (${moving}) union select model, found from (${movingScores})`
  // One transaction.
  await db.batch([
    db
      .insert(requestDomains)
      .select(
        sql`select ${jsonColumns('requestId', 'domain')}, ${nowMs} from json_each(${json})
          where true`,
      )
      .onConflictDoNothing(),
    addChangesToTotals(db, moved),
    namePeriodDomains(db, named, nowMs),
    addChangesToPeriods(db, moved),
    db
      .update(receipts)
      .set({ domain: domainIn('receipts') })
      .where(sql`${isOfBatch} and not estimated and domain <> ${domainIn('receipts')}`),
    addToShadowPeriods(db, movedScores),
    db
      .update(shadowScores)
      .set({ domain: domainIn('shadow_scores') })
      .where(isMoving),
  ])
}

/** Deletes at most `limit` of the found domains from before a time. @returns how many */
export async function deleteRequestDomains(db: Database, beforeMs: number, limit: number): Promise<number> {
  const old = sql`(select rowid from ${requestDomains} where ${requestDomains.createdAt} < ${beforeMs} limit ${limit})`
  const { meta } = await db.delete(requestDomains).where(sql`rowid in ${old}`)
  return meta.changes
}
