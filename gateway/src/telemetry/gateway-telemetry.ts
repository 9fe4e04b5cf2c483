import { resourceFromAttributes } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import { JsonTraceSerializer } from '@opentelemetry/otlp-transformer'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { sendOtlp, type OtlpTarget } from '@copal/shared/telemetry/otlp-send.ts'
import type { GatewayTelemetry } from '../contracts/telemetry.ts'
import { createBatcher } from '../runtime/batcher.ts'
import { toReadableSpan } from './ended-span.ts'
import { createTracing } from './trace.ts'

/** Batching delay of spans, milliseconds. */
const BATCHING_DELAY_MS = 250
/** The number of waiting spans that are sent without the delay. */
const MAX_SPANS = 512
const SENDER_TIMEOUT_MS = 10 * BATCHING_DELAY_MS

/** Creates the telemetry of an isolate; it collects the spans of many requests and sends them at once. */
export function createGatewayTelemetry(settings: OtelSettings): GatewayTelemetry {
  const resource = resourceFromAttributes({ ...settings.resource })
  const { traces } = settings
  const { add } = createBatcher<ReadableSpan>({
    delayMs: BATCHING_DELAY_MS,
    senderTimeoutMs: SENDER_TIMEOUT_MS,
    maxItems: MAX_SPANS,
  })
  const send: GatewayTelemetry['send'] = (event, spans) => {
    if (!traces || spans.length === 0) return
    add(event, spans, (all) => exportSpans(traces, all))
  }
  return {
    settings,
    tracing: createTracing(settings),
    send,
    sendEnded(event, spans) {
      if (traces)
        send(
          event,
          spans.map((span) => toReadableSpan(span, resource)),
        )
    },
  }
}

/** Sends spans to a collector. If that fails, the spans are lost and a warning is logged; no request fails. */
async function exportSpans(target: OtlpTarget, spans: readonly ReadableSpan[]): Promise<void> {
  const body = JsonTraceSerializer.serializeRequest([...spans]) ?? new Uint8Array()
  const reason = await sendOtlp(target, new Uint8Array(body))
  if (reason !== undefined) console.warn(`${spans.length} spans are lost: ${reason}.`)
}
