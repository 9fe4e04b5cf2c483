import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { EndedSpan } from '../../contracts/telemetry.ts'

/** Returns the spans of settled requests that are traced, as children of the spans of the node that served them. */
export function settlementSpans(
  nodeId: string,
  receipts: readonly Pick<Receipt, 'requestId' | 'finishReason' | 'scoring' | 'traceparent'>[],
  times: Pick<EndedSpan, 'startMs' | 'endMs'>,
): EndedSpan[] {
  return receipts.flatMap(({ requestId, finishReason, scoring, traceparent }) => {
    const [, traceId, parentSpanId] = traceparent?.split('-') ?? []
    if (traceId === undefined || parentSpanId === undefined) return []
    const attributes = {
      'copal.request': requestId,
      'copal.node': nodeId,
      'copal.finish_reason': finishReason,
      ...(scoring ? { 'copal.scoring': scoring } : {}),
    }
    return [{ name: 'settle', traceId, spanId: randomSpanId(), parentSpanId, ...times, attributes }]
  })
}

function randomSpanId(): string {
  return crypto.randomUUID().replaceAll('-', '').slice(16)
}
