import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { Deps } from '../contracts/bindings.ts'
import { createBatcher } from '../runtime/batcher.ts'
import { encodeSpan, exportSpans } from './otlp.ts'

/** How long spans wait for company, and how many at the most. */
const WAIT_MS = 250
const MOST_SPANS = 512
const LOST_MS = 10 * WAIT_MS

/** Takes the spans of an isolate's requests, and sends those of many at once. */
export interface SpanBatch {
  /** Keeps the event alive until the spans are sent, unless another's does it. */
  add(deps: Pick<Deps, 'otlpEndpoint' | 'nowMs' | 'waitUntil'>, spans: readonly ReadableSpan[]): void
}

/** The batch of an isolate. */
export function createSpanBatch(): SpanBatch {
  const { add } = createBatcher<string>({ waitMs: WAIT_MS, lostMs: LOST_MS, most: MOST_SPANS })
  return {
    add(deps, spans) {
      const { otlpEndpoint: endpoint } = deps
      const [origin] = spans
      if (endpoint === undefined || !origin) return
      add(deps, spans.map(encodeSpan), (all) => exportSpans(endpoint, origin, all))
    },
  }
}
