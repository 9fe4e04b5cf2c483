import { encodeMetrics } from '@copal/shared/telemetry/otlp-metrics.ts'
import { sendOtlp } from '@copal/shared/telemetry/otlp-send.ts'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import type { Log } from '../../platform/log.ts'
import type { JobObserver } from '../contract/observers.ts'
import { createJobTelemetry } from './job-telemetry.ts'
import { createNodeMetrics, type NodeMetrics } from './node-metrics.ts'
import { NO_TRACING, openTracing, type NodeTracing } from './open-tracing.ts'

/** The spans and metrics of a node. */
export interface NodeTelemetry {
  readonly tracing: NodeTracing
  readonly metrics: NodeMetrics
  readonly jobs: JobObserver
  /** Sends the remaining spans and metrics, and stops. */
  shutdown(): Promise<void>
}

/** Creates the spans and metrics of a node. Metrics are pushed at the interval of the settings, if they have a target. */
export function createNodeTelemetry(options: {
  /** The model that the node serves. */
  model: string
  otel: OtelSettings
  log?: Log
  /** By default no spans are made. */
  tracing?: NodeTracing | undefined
}): NodeTelemetry {
  const { otel, log, tracing = NO_TRACING } = options
  const startMs = Date.now()
  const metrics = createNodeMetrics(options)
  let hasFailed = false

  async function push(): Promise<void> {
    if (!otel.metrics) return
    const body = encodeMetrics(metrics.collect(), otel.resource, { startMs, nowMs: Date.now() })
    const reason = await sendOtlp(otel.metrics, body)
    if (reason !== undefined && !hasFailed) log?.warn('metrics are not exported', { reason })
    if (reason === undefined && hasFailed) log?.info('metrics are exported again')
    hasFailed = reason !== undefined
  }

  const timer = otel.metrics ? setInterval(() => void push(), otel.metricIntervalMs) : undefined
  timer?.unref()
  return {
    tracing,
    metrics,
    jobs: createJobTelemetry(tracing, metrics),
    async shutdown() {
      clearInterval(timer)
      await Promise.allSettled([tracing.shutdown(), push()])
    },
  }
}

/** Opens the spans and metrics of a node, with the tracing of its settings. */
export async function openNodeTelemetry(options: {
  model: string
  otel: OtelSettings
  log: Log
}): Promise<NodeTelemetry> {
  return createNodeTelemetry({ ...options, tracing: await openTracing(options.otel) })
}
