import { and, eq, getTableColumns, ne, sql } from 'drizzle-orm'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { Database } from '../../../contracts/database.ts'
import type { UsageOwner } from '../../../contracts/limits.ts'
import type { ChargedReceipt } from '../../../contracts/reservation.ts'
import { apiKeys } from '../schema/keys.ts'
import { receiptHorizons, receipts } from '../schema/usage.ts'
import { domainOf } from './found-domain-sql.ts'
import { isAmong } from './is-among.ts'
import { addChangesToUsageDays } from './usage-day-queries.ts'
import { addChangesToPeriods } from './period-changes.ts'
import { namePeriodDomains } from './period-domains.ts'
import { addChangesToMetricCounts } from './metric-count-queries.ts'
import { jsonColumn } from './json-columns.ts'
import {
  finishReasonOf,
  incomingDomains,
  isCountable,
  receiptChanges,
  supersededChanges,
  tokensOf,
  undeliveredChanges,
  undeliveredReason,
} from './receipt-changes.ts'
import { addChangesToTotals } from './usage-total-queries.ts'

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

/** The columns of a receipt that replaces an estimate: all but the request id, a superseded attempt stays one, and one without tokens has none. */
const REPLACEMENT = {
  nodeId: sql`excluded.node_id`,
  model: sql`excluded.model`,
  domain: sql`excluded.domain`,
  maskVersion: sql`excluded.mask_version`,
  promptTokens: sql.raw(tokensOf('prompt_tokens', 'excluded', 'receipts')),
  completionTokens: sql.raw(tokensOf('completion_tokens', 'excluded', 'receipts')),
  finishReason: sql.raw(finishReasonOf('excluded', 'receipts')),
  queueMs: sql`excluded.queue_ms`,
  timeToFirstTokenMs: sql`excluded.time_to_first_token_ms`,
  totalMs: sql`excluded.total_ms`,
  driftTokens: sql`excluded.drift_tokens`,
  nllMasked: sql`excluded.nll_masked`,
  nllDense: sql`excluded.nll_dense`,
  scoring: sql`excluded.scoring`,
  estimated: sql`excluded.estimated`,
  createdAt: sql`excluded.created_at`,
  keyId: sql`coalesce(excluded.key_id, ${receipts.keyId})`,
  errorCode: sql`excluded.error_code`,
  conversation: sql`excluded.conversation`,
  namesWeights: sql`excluded.names_weights`,
}

/** A receipt as stored; if the request was retried its finish reason is `superseded`, however it ended. */
export type StoredReceipt = Omit<Receipt, 'finishReason' | 'attestation' | 'traceparent'> & {
  /** When the node was called with its request, Unix milliseconds; undefined if that is unknown. */
  attestedAtMs?: number | undefined
  /** An HMAC of its key and first message, and whether the client named the weights; undefined where that is unknown. */
  conversation?: number | undefined
  namesWeights?: boolean | undefined
  finishReason: (typeof receipts.$inferSelect)['finishReason']
}

/** The origin of a receipt: measured by the node, or estimated by the gateway when a lease expires. */
type ReceiptOrigin = 'node' | 'estimate'

/**
 * Stores receipts and counts them in totals, usage days and periods. Only the first receipt of a request id is stored, but an
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
    scoring: receipt.scoring ?? null,
    errorCode: receipt.errorCode ?? null,
    conversation: receipt.conversation ?? null,
    namesWeights: receipt.namesWeights ?? null,
    estimated: origin === 'estimate',
    createdAt: nowMs,
  }))
  if (rows.length === 0) return 0
  const json = JSON.stringify(rows)
  const store = db
    .insert(receipts)
    .select(sql`select ${INCOMING_COLUMNS} from json_each(${json}) where ${isCountable}`)
    .onConflictDoUpdate({
      target: receipts.requestId,
      set: REPLACEMENT,
      setWhere: sql`${receipts.estimated} = 1 and excluded.estimated = 0`,
    })
  // One transaction.
  const changes = receiptChanges(json)
  const [, , , , , { meta }] = await db.batch([
    addChangesToTotals(db, changes),
    addChangesToUsageDays(db, changes),
    namePeriodDomains(db, incomingDomains(json), nowMs),
    addChangesToPeriods(db, changes),
    addChangesToMetricCounts(db, changes),
    store,
  ])
  return meta.changes
}

/** Attempts whose clients got no output: those that another one followed, and the last ones of their requests. */
interface EndedAttempts {
  superseded: readonly string[]
  undelivered: readonly string[]
}

/**
 * Takes the stored receipts of attempts out of totals, usage days and periods, in one transaction. Those of superseded ones are marked.
 * The others become receipts of requests without tokens; one that was superseded counts from now on, because the attempt after it got no
 * node. Counters do not fall by it: what they are too high is in the sums with the finish reason `moved`.
 *
 * @returns what was taken out of the usage days, by attempt
 */
export async function endReceipts(
  db: Database,
  { superseded, undelivered }: EndedAttempts,
): Promise<Map<string, ChargedReceipt>> {
  const [charged] = await db.batch([
    findCharged(db, [...superseded, ...undelivered]),
    ...(superseded.length > 0 ? supersede(db, superseded) : []),
    ...(undelivered.length > 0 ? undeliver(db, undelivered) : []),
  ])
  return chargedReceipts(charged)
}

function supersede(db: Database, attemptIds: readonly string[]) {
  const changes = supersededChanges(JSON.stringify(attemptIds))
  return [
    addChangesToTotals(db, changes),
    addChangesToUsageDays(db, changes),
    addChangesToPeriods(db, changes),
    db.update(receipts).set({ finishReason: 'superseded' }).where(isAmong(receipts.requestId, attemptIds)),
  ]
}

function undeliver(db: Database, attemptIds: readonly string[]) {
  const changes = undeliveredChanges(JSON.stringify(attemptIds))
  return [
    addChangesToTotals(db, changes),
    addChangesToUsageDays(db, changes),
    addChangesToPeriods(db, changes),
    addChangesToMetricCounts(db, changes),
    db
      .update(receipts)
      .set({ promptTokens: 0, completionTokens: 0, finishReason: sql.raw(undeliveredReason('receipts')) })
      .where(isAmong(receipts.requestId, attemptIds)),
  ]
}

/** Creates a query of the receipts of attempts that are charged. */
function findCharged(db: Database, attemptIds: readonly string[]) {
  const { requestId, promptTokens, completionTokens, finishReason, keyId, createdAt: atMs } = receipts
  const tokens = sql`${promptTokens} + ${completionTokens}`.mapWith(Number)
  return db
    .select({ requestId, keyId, tenant: apiKeys.tenant, tokens, atMs })
    .from(receipts)
    .innerJoin(apiKeys, eq(apiKeys.id, keyId))
    .where(and(isAmong(requestId, attemptIds), ne(finishReason, 'superseded')))
}

function chargedReceipts(rows: Awaited<ReturnType<typeof findCharged>>): Map<string, ChargedReceipt> {
  return new Map(
    rows.map(({ requestId, keyId, tenant, ...charged }) => {
      const owners: UsageOwner[] = [
        { kind: 'key', name: keyId ?? '' },
        { kind: 'tenant', name: tenant },
      ]
      return [requestId, { owners, ...charged }]
    }),
  )
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
  return db
    .select({ requestId, tokens, finishReason, estimated })
    .from(receipts)
    .where(isAmong(requestId, requestIds))
}

/**
 * Moves the horizon, before which receipts may be deleted, to a time unless it is later already. It never moves back.
 */
export async function moveReceiptHorizon(db: Database, beforeMs: number): Promise<void> {
  await db
    .insert(receiptHorizons)
    .values({ id: 1, beforeMs })
    .onConflictDoUpdate({
      target: receiptHorizons.id,
      set: { beforeMs: sql`max(before_ms, excluded.before_ms)` },
    })
}

/** Returns about when the receipt was stored after which `count` others were stored; undefined if there are fewer. */
export async function findReceiptTime(db: Database, count: number): Promise<number | undefined> {
  const last = sql`(select max(rowid) from ${receipts})`
  const row = await db
    .select({ createdAt: receipts.createdAt })
    .from(receipts)
    .where(sql`rowid <= ${last} - ${count}`)
    .orderBy(sql`rowid desc`)
    .limit(1)
    .get()
  return row?.createdAt
}

/**
 * Deletes receipts from before a time among the next `limit` after a place in the order in which they were first stored, in which
 * times mostly ascend. Totals, usage days and periods do not change. An index by time would cost every receipt another write.
 *
 * @param after the place to begin after, 0 or the `last` of the call before
 */
export async function deleteReceipts(
  db: Database,
  { beforeMs, after, limit }: { beforeMs: number; after: number; limit: number },
): Promise<{ examined: number; deleted: number; last: number }> {
  const next = sql`(select rowid from ${receipts} where rowid > ${after} order by rowid limit ${limit})`
  const place = {
    examined: sql`count(*)`.mapWith(Number),
    last: sql`coalesce(max(rowid), ${after})`.mapWith(Number),
  }
  const [[found], { meta }] = await db.batch([
    db.select(place).from(next),
    db
      .delete(receipts)
      .where(
        sql`rowid > ${after} and rowid <= (select max(rowid) from ${next}) and created_at < ${beforeMs}`,
      ),
  ])
  return { examined: found?.examined ?? 0, last: found?.last ?? after, deleted: meta.changes }
}
