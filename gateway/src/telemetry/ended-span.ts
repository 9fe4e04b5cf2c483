import { SpanKind, SpanStatusCode, TraceFlags, type HrTime } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { EndedSpan } from '../contracts/telemetry.ts'

/** Returns a span in the form of the SDK, which makes no spans with ids that are given. */
export function toReadableSpan(ended: EndedSpan, resource: ReadableSpan['resource']): ReadableSpan {
  const { name, traceId, spanId, parentSpanId, startMs, endMs, attributes, errorType } = ended
  const startTime = toHrTime(startMs)
  const durationMs = Math.max(0, endMs - startMs)
  return {
    name,
    kind: SpanKind.INTERNAL,
    spanContext: () => ({ traceId, spanId, traceFlags: TraceFlags.SAMPLED }),
    ...(parentSpanId === undefined
      ? {}
      : { parentSpanContext: { traceId, spanId: parentSpanId, traceFlags: TraceFlags.SAMPLED } }),
    startTime,
    endTime: toHrTime(startMs + durationMs),
    duration: toHrTime(durationMs),
    ended: true,
    status: errorType === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR },
    attributes: { ...attributes, ...(errorType === undefined ? {} : { 'error.type': errorType }) },
    links: [],
    events: [],
    resource,
    instrumentationScope: { name: 'copal-gateway' },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  }
}

function toHrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000)
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)]
}
