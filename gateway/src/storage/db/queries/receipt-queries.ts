import { and, avg, count, desc, eq, getTableColumns, gte, inArray, lt, ne, sql, sum } from 'drizzle-orm'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { Database } from '../../../contracts/database.ts'
import { receipts } from '../schema/usage.ts'
import { domainOf } from './found-domain-sql.ts'
import { addToUsageDays } from './usage-day-queries.ts'
import { jsonColumn, addToUsageTotals } from './usage-total-queries.ts'

/**
 * All columns of the receipts in a JSON parameter, so that one statement stores any number of them. The domain is the one
 * that was found for the request, if there is one.
 */
const INCOMING_COLUMNS = sql.join(
  Object.keys(getTableColumns(receipts)).map((name) =>
    name === 'domain' ? domainOf(jsonColumn('requestId'), jsonColumn(name)) : jsonColumn(name),
  ),
  sql`, `,
)

/** The columns of a receipt that replaces an estimate: all but the request id. */
const REPLACEMENT = {
  nodeId: sql`excluded.node_id`,
  model: sql`excluded.model`,
  domain: sql`excluded.domain`,
  maskVersion: sql`excluded.mask_version`,
  promptTokens: sql`excluded.prompt_tokens`,
  completionTokens: sql`excluded.completion_tokens`,
  finishReason: sql`excluded.finish_reason`,
  queueMs: sql`excluded.queue_ms`,
  timeToFirstTokenMs: sql`excluded.time_to_first_token_ms`,
  totalMs: sql`excluded.total_ms`,
  driftTokens: sql`excluded.drift_tokens`,
  nllMasked: sql`excluded.nll_masked`,
  nllDense: sql`excluded.nll_dense`,
  estimated: sql`excluded.estimated`,
  createdAt: sql`excluded.created_at`,
  keyId: sql`coalesce(excluded.key_id, ${receipts.keyId})`,
}

/** A receipt as stored; if the request was retried its finish reason is `superseded`, however it ended. */
export type StoredReceipt = Omit<Receipt, 'finishReason' | 'attestation'> & {
  finishReason: (typeof receipts.$inferSelect)['finishReason']
}

/** The origin of a receipt: measured by the node, or estimated by the gateway when a lease expires. */
type ReceiptOrigin = 'node' | 'estimate'

/**
 * Stores receipts and counts them in totals and usage days. Only the first receipt of a request id is stored, but an
 * estimate is replaced once by the receipt of a node.
 *
 * @returns the number of stored receipts
 */
export async function insertReceipts(
  db: Database,
  nodeId: string,
  batch: readonly StoredReceipt[],
  origin: ReceiptOrigin,
  nowMs: number,
): Promise<number> {
  const rows = batch.map(({ drift, account, ...receipt }): typeof receipts.$inferInsert => ({
    ...receipt,
    keyId: account ?? null,
    nodeId,
    driftTokens: drift?.tokens ?? null,
    nllMasked: drift?.nllMasked ?? null,
    nllDense: drift?.nllDense ?? null,
    estimated: origin === 'estimate',
    createdAt: nowMs,
  }))
  if (rows.length === 0) return 0
  const json = JSON.stringify(rows)
  const store = db
    .insert(receipts)
    // Without `where`, SQLite parses the following `on conflict` as the condition of a join.
    .select(sql`select ${INCOMING_COLUMNS} from json_each(${json}) where true`)
    .onConflictDoUpdate({
      target: receipts.requestId,
      set: REPLACEMENT,
      setWhere: sql`${receipts.estimated} = 1 and excluded.estimated = 0`,
    })
  // One transaction.
  const [, , { meta }] = await db.batch([addToUsageTotals(db, json), addToUsageDays(db, json), store])
  return meta.changes
}

/** Returns the settled ones of some requests with their tokens; if `estimated`, their node's receipt may still arrive. */
export async function findSettledReceipts(
  db: Database,
  requestIds: readonly string[],
): Promise<
  (Pick<typeof receipts.$inferSelect, 'requestId' | 'finishReason' | 'estimated'> & { tokens: number })[]
> {
  const { requestId, promptTokens, completionTokens, finishReason, estimated } = receipts
  const tokens = sql`${promptTokens} + ${completionTokens}`.mapWith(Number)
  // All ids in one parameter, because a statement has at most 100.
  const wanted = sql`(select value from json_each(${JSON.stringify(requestIds)}))`
  return db
    .select({ requestId, tokens, finishReason, estimated })
    .from(receipts)
    .where(inArray(requestId, wanted))
}

/** Enough for shares of domains; a month may have millions, which would take longer than the database lets a statement. */
const MAX_SUMMED_RECEIPTS = 200_000

/**
 * Returns the settled tokens of each domain of a model since `fromMs`, of the newest receipts; superseded attempts do not
 * count.
 */
export async function sumTokensByDomain(
  db: Database,
  model: string,
  fromMs: number,
  limit = MAX_SUMMED_RECEIPTS,
): Promise<Map<string, number>> {
  const { domain, promptTokens, completionTokens, finishReason, createdAt } = receipts
  const newest = db
    .select({ domain, tokens: sql<number>`${promptTokens} + ${completionTokens}`.as('tokens') })
    .from(receipts)
    .where(and(eq(receipts.model, model), ne(finishReason, 'superseded'), gte(createdAt, fromMs)))
    .orderBy(desc(createdAt))
    .limit(limit)
    .as('newest')
  const rows = await db
    .select({ domain: newest.domain, tokens: sum(newest.tokens).mapWith(Number) })
    .from(newest)
    .groupBy(newest.domain)
  return new Map(rows.map((row) => [row.domain, row.tokens]))
}

/** Sums of the receipts of one mask version. */
export interface VersionSum {
  maskVersion: number
  requests: number
  failed: number
  promptTokens: number
  completionTokens: number
  timeToFirstTokenMs: number | null
  totalMs: number | null
  driftTokens: number | null
  nllMasked: number | null
  nllDense: number | null
}

/** Returns sums, and means of times, of a model's mask versions since `fromMs`. Failed attempts count, even if retried. */
export async function sumVersionsSince(db: Database, model: string, fromMs: number): Promise<VersionSum[]> {
  const { maskVersion, finishReason, promptTokens, completionTokens, createdAt } = receipts
  const { timeToFirstTokenMs, totalMs, driftTokens, nllMasked, nllDense } = receipts
  return db
    .select({
      maskVersion,
      requests: count(),
      failed: sql`sum(${finishReason} in ('error', 'superseded'))`.mapWith(Number),
      promptTokens: sum(promptTokens).mapWith(Number),
      completionTokens: sum(completionTokens).mapWith(Number),
      timeToFirstTokenMs: avg(timeToFirstTokenMs).mapWith(Number),
      totalMs: avg(totalMs).mapWith(Number),
      driftTokens: sum(driftTokens).mapWith(Number),
      nllMasked: sum(nllMasked).mapWith(Number),
      nllDense: sum(nllDense).mapWith(Number),
    })
    .from(receipts)
    .where(and(eq(receipts.model, model), gte(createdAt, fromMs)))
    .groupBy(maskVersion)
}

/**
 * Deletes at most `limit` receipts from before a time, oldest first. Totals and usage days do not change.
 *
 * @returns the number of deleted receipts
 */
export async function deleteReceipts(db: Database, beforeMs: number, limit: number): Promise<number> {
  const old = db
    .select({ requestId: receipts.requestId })
    .from(receipts)
    .where(lt(receipts.createdAt, beforeMs))
    .orderBy(receipts.createdAt)
    .limit(limit)
  const { meta } = await db.delete(receipts).where(inArray(receipts.requestId, old))
  return meta.changes
}
