import { SpanStatusCode } from '@opentelemetry/api'
import type { JobObserver } from '../contract/observers.ts'
import type { NodeMetrics } from './node-metrics.ts'
import type { NodeTracing } from './open-tracing.ts'

/** Creates the observer of jobs, which makes a span of each in the trace of its update. */
export function createJobTelemetry(
  tracing: Pick<NodeTracing, 'tracer' | 'contextOfParent'>,
  metrics: Pick<NodeMetrics, 'jobs'>,
): JobObserver {
  return {
    started({ id, kind, traceparent }) {
      const startedMs = performance.now()
      const span = tracing.tracer.startSpan(
        `job ${kind}`,
        { attributes: { 'copal.job': id } },
        tracing.contextOfParent(traceparent),
      )
      metrics.jobs.progress(kind, 0)
      return {
        progress: (fraction) => metrics.jobs.progress(kind, fraction),
        ended(outcome, code) {
          metrics.jobs.ended(kind, outcome, performance.now() - startedMs)
          span.setAttribute('copal.job.outcome', outcome)
          if (code !== undefined) {
            span.setAttribute('error.type', code)
            span.setStatus({ code: SpanStatusCode.ERROR })
          }
          span.end()
        },
      }
    },
  }
}
