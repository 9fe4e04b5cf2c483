import { resourceFromAttributes } from '@opentelemetry/resources'
import type { SpanProcessor } from '@opentelemetry/sdk-trace-node'
import { createNodeMetrics, type NodeMetrics } from './node-metrics.ts'
import { createNodeTracing, type NodeTracing } from './node-tracing.ts'

/** The spans and metrics of a node. */
export interface NodeTelemetry {
  readonly tracing: NodeTracing
  readonly metrics: NodeMetrics
  shutdown(): Promise<void>
}

/** Creates the spans and metrics of a node under one resource. */
export function createNodeTelemetry(options: {
  nodeId: string
  otlpEndpoint: string | null
  processors?: SpanProcessor[]
}): NodeTelemetry {
  const resource = resourceFromAttributes({
    'service.name': 'copal-node',
    'service.instance.id': options.nodeId,
  })
  const tracing = createNodeTracing({ ...options, resource })
  const metrics = createNodeMetrics({ resource })
  return {
    tracing,
    metrics,
    async shutdown() {
      await Promise.allSettled([tracing.shutdown(), metrics.shutdown()])
    },
  }
}
