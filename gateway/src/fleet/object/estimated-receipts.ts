import type { Lease } from '../../contracts/lease.ts'
import type { ChargedReceipt } from '../../contracts/reservation.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { endReceipts, insertReceipts, type StoredReceipt } from '../../storage/db/queries/receipt-queries.ts'

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

/** A failed attempt whose client got no output. */
export interface EndedAttempt {
  requestId: string
  /** Undefined if it is settled. */
  lease: Lease | undefined
  /** Whether another attempt followed; otherwise it was the last one of its request. */
  isSuperseded: boolean
}

/**
 * Takes the receipts of superseded attempts out of the sums, and the tokens of those that were the last ones of their requests; one that
 * was superseded by an attempt without a node counts again. If no receipt is stored yet, an estimate is, of the last ones without tokens:
 * by that a receipt is recognised which arrives when the fleet has forgotten the attempt, and has no tokens either.
 *
 * @returns what the receipts had charged, by attempt
 */
export async function storeEnded(
  binding: D1Database,
  attempts: readonly EndedAttempt[],
  nowMs: number,
): Promise<Map<string, ChargedReceipt>> {
  const db = openDatabase(binding)
  // First, because what the receipts had charged is returned once.
  const leased = attempts.flatMap(({ lease, isSuperseded }) => (lease ? { lease, isSuperseded } : []))
  for (const [nodeId, ofNode] of Map.groupBy(leased, ({ lease }) => lease.nodeId)) {
    const estimates = ofNode.map(({ lease, isSuperseded }) =>
      isSuperseded
        ? estimateReceipt(lease, 'superseded', nowMs)
        : estimateReceipt({ ...lease, promptTokens: 0, completionTokens: 0 }, 'error', nowMs),
    )
    await insertReceipts(db, nodeId, estimates, 'estimate', nowMs)
  }
  const idsOf = (which: boolean) =>
    attempts.filter(({ isSuperseded }) => isSuperseded === which).map(({ requestId }) => requestId)
  return endReceipts(db, { superseded: idsOf(true), undelivered: idsOf(false) })
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
