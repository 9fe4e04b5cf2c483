import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { ProxyTracerProvider, ROOT_CONTEXT, type Context, type Tracer } from '@opentelemetry/api'

/** The tracing of a node. Contexts are passed explicitly, so nothing is registered globally. */
export interface NodeTracing {
  readonly tracer: Tracer
  /** Returns the caller's context from `traceparent` and `tracestate`; the root context without them. */
  contextOf(headers: Headers): Context
  /** Returns the context that a `traceparent` names; the root context without one. */
  contextOfParent(traceparent: string | undefined): Context
  /** Exports the remaining spans. */
  shutdown(): Promise<void>
}

/** The tracing of a node without a collector: it makes no spans and reads no callers' contexts. */
export const NO_TRACING: NodeTracing = {
  tracer: new ProxyTracerProvider().getTracer('copal-node'),
  contextOf: () => ROOT_CONTEXT,
  contextOfParent: () => ROOT_CONTEXT,
  shutdown: () => Promise.resolve(),
}

/** Opens the tracing of a node. The SDK, a third of the modules that a node can load, is loaded only for a collector. */
export async function openTracing(otel: OtelSettings): Promise<NodeTracing> {
  if (!otel.traces) return NO_TRACING
  const { createNodeTracing } = await import('./node-tracing.ts')
  return createNodeTracing({ otel })
}
