import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { Deps } from '../contracts/bindings.ts'
import { createBatcher } from '../runtime/batcher.ts'
import { exportSpans } from './otlp.ts'

/** Batching delay of spans, milliseconds. */
const BATCHING_DELAY_MS = 250
/** The number of waiting spans that are sent without the delay. */
const MAX_SPANS = 512
const SENDER_TIMEOUT_MS = 10 * BATCHING_DELAY_MS

/** Collects the spans of an isolate's requests and sends those of many requests at once. */
export interface SpanBatch {
  /** Adds spans and keeps the event alive until they are sent, unless another event does so. */
  add(deps: Pick<Deps, 'otlpEndpoint' | 'nowMs' | 'waitUntil'>, spans: readonly ReadableSpan[]): void
}

/** Creates the span batch of an isolate. */
export function createSpanBatch(): SpanBatch {
  const { add } = createBatcher<ReadableSpan>({
    delayMs: BATCHING_DELAY_MS,
    senderTimeoutMs: SENDER_TIMEOUT_MS,
    maxItems: MAX_SPANS,
  })
  return {
    add(deps, spans) {
      const { otlpEndpoint: endpoint } = deps
      if (endpoint === undefined || spans.length === 0) return
      add(deps, spans, (all) => exportSpans(endpoint, all))
    },
  }
}
