import type { ReceiptBatch } from '@copal/shared/wire/receipts.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { insertReceipts, type StoredReceipt } from '../../storage/db/queries/receipt-queries.ts'
import { attestedRecords } from './attested-records.ts'
import { boundedReceipt } from './bounded-receipt.ts'
import { settlementSpans } from './settlement-spans.ts'

/**
 * Stores the receipts of a node, ends their leases, and charges their reservations. Settling is idempotent by request id.
 *
 * @param requireFirstUse throws if the batch is a repetition of a call; asked at the same time as what was superseded
 * @returns the number of receipts that were new
 */
export async function settleReceipts(
  deps: Pick<Deps, 'db' | 'fleet' | 'nowMs' | 'attestations' | 'telemetry' | 'waitUntil'>,
  { nodeId, receipts: sent }: ReceiptBatch,
  requireFirstUse: () => Promise<void>,
): Promise<number> {
  const startMs = deps.nowMs()
  const records = await attestedRecords(deps, nodeId, sent, 'receipts')
  const attested = records.map((record) => {
    const { traceparent: _, ...receipt } = record
    return boundedReceipt(receipt)
  })
  const [receipts] = await Promise.all([markFailed(deps, attested), requireFirstUse()])
  const settled = await insertReceipts(deps.db, nodeId, receipts, 'node', deps.nowMs())
  await deps.fleet.settle(
    receipts.map(({ requestId, promptTokens, completionTokens, finishReason }) => ({
      requestId,
      // A superseded attempt costs nothing, because its retry is charged.
      tokens: finishReason === 'superseded' ? 0 : promptTokens + completionTokens,
      succeeded: finishReason === 'stop' || finishReason === 'length',
    })),
  )
  deps.telemetry.sendEnded(deps, settlementSpans(nodeId, records, { startMs, endMs: deps.nowMs() }))
  return settled
}

/**
 * Marks the receipts of superseded attempts: another node served the request, so their output reached no client. That of
 * the last attempt counts as a request without tokens if its client got no output either.
 */
async function markFailed(
  deps: Pick<Deps, 'fleet'>,
  receipts: readonly StoredReceipt[],
): Promise<readonly StoredReceipt[]> {
  const failed = receipts.filter(({ finishReason }) => finishReason === 'error')
  const { superseded, undelivered } = await deps.fleet.findFailed(idsOf(receipts), idsOf(failed))
  return receipts.map((receipt) => {
    if (superseded.includes(receipt.requestId)) return { ...receipt, finishReason: 'superseded' }
    if (undelivered.includes(receipt.requestId)) return { ...receipt, promptTokens: 0, completionTokens: 0 }
    return receipt
  })
}

function idsOf(receipts: readonly StoredReceipt[]): string[] {
  return receipts.map(({ requestId }) => requestId)
}
