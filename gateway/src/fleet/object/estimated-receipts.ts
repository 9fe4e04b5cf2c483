import type { Lease } from '../../contracts/lease.ts'
import type { ChargedReceipt } from '../../contracts/reservation.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import {
  insertReceipts,
  supersedeReceipt,
  undeliverReceipt,
  type StoredReceipt,
} from '../../storage/db/queries/receipt-queries.ts'

/**
 * Stores the receipts of requests whose node died before it sent them. A receipt that arrived meanwhile stays.
 *
 * @param isSuperseded returns whether another attempt followed: then its output did not reach the client
 */
export async function storeEstimates(
  binding: D1Database,
  nodeId: string,
  expired: readonly Lease[],
  isSuperseded: (requestId: string) => boolean,
  nowMs: number,
): Promise<void> {
  const settled = expired.map((lease) =>
    estimateReceipt(lease, isSuperseded(lease.requestId) ? 'superseded' : 'error', nowMs),
  )
  await insertReceipts(openDatabase(binding), nodeId, settled, 'estimate', nowMs)
}

/**
 * Takes the receipt of an attempt after which another one followed out of the sums. If none is stored yet, an estimate is: by that a
 * receipt is recognised which arrives when the fleet has forgotten the attempt.
 *
 * @param lease of the attempt, unless it is settled
 * @returns what the receipt had charged; undefined if nothing
 */
export async function storeSuperseded(
  binding: D1Database,
  attemptId: string,
  lease: Lease | undefined,
  nowMs: number,
): Promise<ChargedReceipt | undefined> {
  const charged = await supersedeReceipt(openDatabase(binding), attemptId)
  if (lease) await storeEstimates(binding, lease.nodeId, [lease], () => true, nowMs)
  return charged
}

/**
 * Takes the tokens of an attempt out of the sums that was the last one of its request and gave its client no output, and counts it if it
 * was superseded by one that got no node. If no receipt is stored yet, an estimate without tokens is: the receipt that replaces it then
 * has none either.
 *
 * @param lease of the attempt, unless it is settled
 * @returns what the receipt had charged; undefined if nothing
 */
export async function storeUndelivered(
  binding: D1Database,
  attemptId: string,
  lease: Lease | undefined,
  nowMs: number,
): Promise<ChargedReceipt | undefined> {
  const db = openDatabase(binding)
  const charged = await undeliverReceipt(db, attemptId)
  if (!lease) return charged
  const estimate = estimateReceipt({ ...lease, promptTokens: 0, completionTokens: 0 }, 'error', nowMs)
  await insertReceipts(db, lease.nodeId, [estimate], 'estimate', nowMs)
  return charged
}

/** Creates the receipt of a request whose node died before it sent one, from the last reported usage. */
function estimateReceipt(
  lease: Lease,
  finishReason: StoredReceipt['finishReason'],
  nowMs: number,
): StoredReceipt {
  const { requestId, account, model, domain, maskVersion, promptTokens, completionTokens } = lease
  return {
    requestId,
    account,
    model,
    domain,
    maskVersion,
    promptTokens,
    completionTokens,
    finishReason,
    queueMs: 0,
    timeToFirstTokenMs: null,
    totalMs: nowMs - lease.acquiredAtMs,
    drift: null,
  }
}
