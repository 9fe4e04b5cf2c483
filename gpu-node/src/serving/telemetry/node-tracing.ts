import { ROOT_CONTEXT, type TextMapGetter } from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  BatchSpanProcessor,
  NodeTracerProvider,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { createSampler } from '@copal/shared/telemetry/sampler.ts'
import type { NodeTracing } from './open-tracing.ts'

/** Options of the tracing of a node. */
export interface NodeTracingOptions {
  otel: Pick<OtelSettings, 'traces' | 'sampler' | 'resource'>
  /** Further processors: tests keep spans in memory. */
  processors?: SpanProcessor[]
}

const HEADERS: TextMapGetter<Headers> = {
  keys: (headers) => [...headers.keys()],
  get: (headers, key) => headers.get(key) ?? undefined,
}

/**
 * Creates tracing with W3C propagation. Without a collector or a processor no span is made. An unreachable collector loses spans, but
 * never fails a request.
 */
export function createNodeTracing({ otel, processors = [] }: NodeTracingOptions): NodeTracing {
  const { traces, sampler, resource } = otel
  const exporting = traces
    ? [new BatchSpanProcessor(new OTLPTraceExporter({ url: traces.url, headers: { ...traces.headers } }))]
    : []
  const spanProcessors = [...exporting, ...processors]
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ ...resource }),
    sampler: spanProcessors.length > 0 ? createSampler(sampler) : new AlwaysOffSampler(),
    spanProcessors,
  })
  const propagator = new W3CTraceContextPropagator()
  const contextOf = (headers: Headers) => propagator.extract(ROOT_CONTEXT, headers, HEADERS)
  return {
    tracer: provider.getTracer('copal-node'),
    contextOf,
    contextOfParent: (traceparent) =>
      traceparent === undefined ? ROOT_CONTEXT : contextOf(new Headers({ traceparent })),
    shutdown: () => provider.shutdown(),
  }
}
