import { ROOT_CONTEXT, type Context, type TextMapGetter, type Tracer } from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import type { Resource } from '@opentelemetry/resources'
import { BatchSpanProcessor, NodeTracerProvider, type SpanProcessor } from '@opentelemetry/sdk-trace-node'

/** The tracing of a node. Contexts are passed explicitly, so nothing is registered globally. */
export interface NodeTracing {
  readonly tracer: Tracer
  /** Returns the caller's context from `traceparent` and `tracestate`; the root context without them. */
  contextOf(headers: Headers): Context
  /** Exports the remaining spans. */
  shutdown(): Promise<void>
}

/** Options of the tracing of a node. */
export interface NodeTracingOptions {
  resource: Resource
  /** Base address of an OTLP collector (`http://127.0.0.1:4318`); null exports nothing. */
  otlpEndpoint: string | null
  /** Further processors: tests keep spans in memory. */
  processors?: SpanProcessor[]
}

const HEADERS: TextMapGetter<Headers> = {
  keys: (headers) => [...headers.keys()],
  get: (headers, key) => headers.get(key) ?? undefined,
}

/** Creates tracing with W3C propagation. An unreachable collector loses spans, but never fails a request. */
export function createNodeTracing({
  resource,
  otlpEndpoint,
  processors = [],
}: NodeTracingOptions): NodeTracing {
  const exporting = otlpEndpoint
    ? [
        new BatchSpanProcessor(
          new OTLPTraceExporter({ url: `${otlpEndpoint.replace(/\/+$/, '')}/v1/traces` }),
        ),
      ]
    : []
  const provider = new NodeTracerProvider({ resource, spanProcessors: [...exporting, ...processors] })
  const propagator = new W3CTraceContextPropagator()
  return {
    tracer: provider.getTracer('copal-node'),
    contextOf: (headers) => propagator.extract(ROOT_CONTEXT, headers, HEADERS),
    shutdown: () => provider.shutdown(),
  }
}
