import type { Attributes, AttributeValue, HrTime } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'

/**
 * Sends spans to a collector, OTLP over HTTP in JSON. A collector that is away costs its spans and a
 * line in the log, never a request.
 */
export async function exportSpans(endpoint: string, spans: readonly ReadableSpan[]): Promise<void> {
  if (spans.length === 0) return
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(encodeSpans(spans)),
      signal: AbortSignal.timeout(5_000),
    })
    await response.body?.cancel()
    if (!response.ok)
      console.warn(`The collector at ${url} refused ${spans.length} spans: HTTP ${response.status}.`)
  } catch (error) {
    console.warn(`The collector at ${url} is not reachable; ${spans.length} spans are lost.`, error)
  }
}

/** The `ExportTraceServiceRequest` of OTLP's JSON encoding: ids in hex, times in nanoseconds as strings. */
function encodeSpans(spans: readonly ReadableSpan[]): object {
  const [first] = spans
  if (!first) return { resourceSpans: [] }
  return {
    resourceSpans: [
      {
        resource: { attributes: encodeAttributes(first.resource.attributes) },
        scopeSpans: [{ scope: { name: first.instrumentationScope.name }, spans: spans.map(encodeSpan) }],
      },
    ],
  }
}

function encodeSpan(span: ReadableSpan): object {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return {
    traceId,
    spanId,
    parentSpanId: span.parentSpanContext?.spanId ?? '',
    flags: traceFlags,
    name: span.name,
    // OTLP counts from 1, the API from 0.
    kind: span.kind + 1,
    startTimeUnixNano: nanoseconds(span.startTime),
    endTimeUnixNano: nanoseconds(span.endTime),
    attributes: encodeAttributes(span.attributes),
    events: span.events.map((event) => ({
      timeUnixNano: nanoseconds(event.time),
      name: event.name,
      attributes: encodeAttributes(event.attributes ?? {}),
    })),
    status: { code: span.status.code, ...(span.status.message ? { message: span.status.message } : {}) },
  }
}

function encodeAttributes(attributes: Attributes): object[] {
  return Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: encodeValue(value) }],
  )
}

function encodeValue(value: AttributeValue | null): object {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (typeof value === 'number')
    return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
  if (Array.isArray(value)) return { arrayValue: { values: value.map((item) => encodeValue(item ?? null)) } }
  return {}
}

function nanoseconds([seconds, nanos]: HrTime): string {
  return String(BigInt(seconds) * 1_000_000_000n + BigInt(nanos))
}
