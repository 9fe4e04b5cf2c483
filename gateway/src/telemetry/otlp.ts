import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import { JsonTraceSerializer } from '@opentelemetry/otlp-transformer'

/** Timeout of an export, milliseconds. */
const EXPORT_TIMEOUT_MS = 5_000

/**
 * Sends spans to a collector by OTLP over HTTP in JSON. If that fails, the spans are lost and a warning is logged; no
 * request fails.
 */
export async function exportSpans(endpoint: string, spans: readonly ReadableSpan[]): Promise<void> {
  const url = `${endpoint.replace(/\/+$/, '')}/v1/traces`
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: new TextDecoder().decode(JsonTraceSerializer.serializeRequest([...spans])),
      signal: AbortSignal.timeout(EXPORT_TIMEOUT_MS),
    })
    await response.body?.cancel()
    if (!response.ok)
      console.warn(`The collector at ${url} rejected ${spans.length} spans: HTTP ${response.status}.`)
  } catch (error) {
    console.warn(`Cannot reach the collector at ${url}; ${spans.length} spans are lost.`, error)
  }
}
