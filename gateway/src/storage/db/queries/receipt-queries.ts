import { and, avg, count, eq, getTableColumns, gte, inArray, lt, sql, sum } from 'drizzle-orm'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { Database } from '../../../contracts/database.ts'
import { receipts } from '../schema.ts'
import { countDays } from './usage-day-queries.ts'
import { column, countReceipts } from './usage-total-queries.ts'

/** Every column of the rows in a parameter: in one statement, however many there are. */
const ROWS = sql.join(Object.keys(getTableColumns(receipts)).map(column), sql`, `)

/** Every column but the key, as in the receipt that comes later. */
const REPLACED = {
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

/** A receipt as it is stored: of a request that was tried again then it is `superseded`, however it ended. */
export type StoredReceipt = Omit<Receipt, 'finishReason' | 'attestation'> & {
  finishReason: (typeof receipts.$inferSelect)['finishReason']
}

/** Where a receipt comes from: measured by the node, or estimated by the gateway when a lease expires. */
type ReceiptOrigin = 'node' | 'estimate'

/**
 * Settles requests: each receipt is stored once, whatever comes again for its request id is ignored. Only an
 * estimate gives way, once, to the receipt of a node.
 *
 * @returns how many were stored.
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
    // Without a condition SQLite takes what follows for one of a join.
    .select(sql`select ${ROWS} from json_each(${json}) where true`)
    .onConflictDoUpdate({
      target: receipts.requestId,
      set: REPLACED,
      setWhere: sql`${receipts.estimated} = 1 and excluded.estimated = 0`,
    })
  // Together or not at all.
  const [, , { meta }] = await db.batch([countReceipts(db, json), countDays(db, json), store])
  return meta.changes
}

/** Of some requests those that are settled, and with how many tokens; `estimated`: their node's own receipt may still come. */
export async function findSettled(
  db: Database,
  requestIds: readonly string[],
): Promise<
  (Pick<typeof receipts.$inferSelect, 'requestId' | 'finishReason' | 'estimated'> & { tokens: number })[]
> {
  const { requestId, promptTokens, completionTokens, finishReason, estimated } = receipts
  const tokens = sql`${promptTokens} + ${completionTokens}`.mapWith(Number)
  // In one parameter, however many they are.
  const wanted = sql`(select value from json_each(${JSON.stringify(requestIds)}))`
  return db
    .select({ requestId, tokens, finishReason, estimated })
    .from(receipts)
    .where(inArray(requestId, wanted))
}

/** What one mask did in a time. */
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

/** What the masks of a model did since `fromMs`: sums, and means of times. A try that failed counts, whoever answered then. */
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

/** Deletes receipts from before a time; totals and days keep what they were. At most `limit` at once. @returns how many */
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
