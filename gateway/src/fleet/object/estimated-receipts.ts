import type { Lease } from '../../contracts/lease.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { insertReceipts, type StoredReceipt } from '../../storage/db/queries/receipt-queries.ts'

/** Stores the receipts of requests whose node died before it sent them. A receipt that arrived meanwhile stays. */
export async function storeEstimates(
  binding: D1Database,
  nodeId: string,
  expired: readonly Lease[],
  nowMs: number,
): Promise<void> {
  const settled = expired.map((lease) => estimateReceipt(lease, nowMs))
  await insertReceipts(openDatabase(binding), nodeId, settled, 'estimate', nowMs)
}

/** Creates the receipt of a request whose node died before it sent one, from the last reported usage. */
function estimateReceipt(lease: Lease, nowMs: number): StoredReceipt {
  const { requestId, account, model, domain, maskVersion, promptTokens, completionTokens } = lease
  return {
    requestId,
    account,
    model,
    domain,
    maskVersion,
    promptTokens,
    completionTokens,
    finishReason: 'error',
    queueMs: 0,
    timeToFirstTokenMs: null,
    totalMs: nowMs - lease.acquiredAtMs,
    drift: null,
  }
}
