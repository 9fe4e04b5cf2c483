import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { Deps } from '../deps.ts'
import { exportSpans } from './otlp.ts'

/** How long spans wait for company, and how many at the most. */
const WAIT_MS = 250
const MOST_SPANS = 512
/** An event that was to send spans and has not by then is gone. */
const LOST_MS = 10 * WAIT_MS

/** Takes the spans of an isolate's requests, and sends those of many at once: a call of its own for each costs more than the spans. */
export interface SpanBatch {
  /** Keeps the event alive until the spans are sent, unless another's does it. */
  add(deps: Pick<Deps, 'otlpEndpoint' | 'nowMs' | 'waitUntil'>, spans: readonly ReadableSpan[]): void
}

/** The batch of an isolate. */
export function createSpanBatch(): SpanBatch {
  const waiting: ReadableSpan[] = []
  let sentByMs = -Infinity

  const send = async (endpoint: string): Promise<void> => {
    sentByMs = -Infinity
    await exportSpans(endpoint, waiting.splice(0))
  }

  return {
    add({ otlpEndpoint: endpoint, nowMs, waitUntil }, spans) {
      if (endpoint === undefined || spans.length === 0) return
      waiting.push(...spans)
      if (waiting.length >= MOST_SPANS) return waitUntil(send(endpoint))
      if (nowMs() < sentByMs) return
      sentByMs = nowMs() + LOST_MS
      waitUntil(new Promise((resolve) => setTimeout(resolve, WAIT_MS)).then(() => send(endpoint)))
    },
  }
}
