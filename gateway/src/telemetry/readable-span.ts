import { SpanKind, SpanStatusCode, TraceFlags, type HrTime } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { EndedSpan } from '../contracts/telemetry.ts'

const KINDS = { internal: SpanKind.INTERNAL, server: SpanKind.SERVER, client: SpanKind.CLIENT } as const

/** Returns a span in the form that the SDK's serializer takes. */
export function toReadableSpan(ended: EndedSpan, resource: ReadableSpan['resource']): ReadableSpan {
  const {
    kind = 'internal',
    name,
    traceId,
    spanId,
    parentSpanId,
    startMs,
    endMs,
    attributes,
    errorType,
  } = ended
  const startTime = toHrTime(startMs)
  const durationMs = Math.max(0, endMs - startMs)
  return {
    name,
    kind: KINDS[kind],
    spanContext: () => ({ traceId, spanId, traceFlags: TraceFlags.SAMPLED }),
    ...(parentSpanId === undefined
      ? {}
      : { parentSpanContext: { traceId, spanId: parentSpanId, traceFlags: TraceFlags.SAMPLED } }),
    startTime,
    endTime: toHrTime(startMs + durationMs),
    duration: toHrTime(durationMs),
    ended: true,
    status: errorType === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR },
    attributes: errorType === undefined ? attributes : { ...attributes, 'error.type': errorType },
    links: [],
    events: [],
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  }
}

/** One object, because the serializer groups spans by it. */
const SCOPE = { name: 'copal-gateway' }

function toHrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000)
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)]
}
