import type { AppError } from '@copal/shared/errors.ts'
import type { MeasuredIn } from '@copal/shared/telemetry/instruments.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import {
  endGenerated,
  endRejected,
  sampledTrace,
  startCallSpan,
  type TracedCall,
} from './generation-spans.ts'
import type { NodeMetrics } from './node-metrics.ts'
import type { NodeTracing } from './open-tracing.ts'

/** The span and the metrics of one call. Exactly one of `ended` and `rejected` is called. */
export interface CallTelemetry {
  /** Its span, for exemplars and log lines; undefined if it is not sampled. */
  readonly trace: MeasuredIn
  /** The `traceparent` that names its span; undefined if it is not sampled. */
  readonly traceparent: string | undefined
  /**
   * Its generation has ended.
   *
   * @param outputs outputs that were generated side by side
   */
  ended(outcome: GenerationOutcome, outputs: number): void
  /** It failed before it generated anything, `durationMs` milliseconds after its arrival. */
  rejected(error: AppError, durationMs: number): void
}

/**
 * Starts the telemetry of a call.
 *
 * @param headers of the call, with the trace context of the caller
 */
export function startCallTelemetry(
  { tracing, metrics }: { tracing: NodeTracing; metrics: NodeMetrics },
  headers: Headers,
  call: TracedCall,
): CallTelemetry {
  const span = startCallSpan(tracing.tracer, tracing.contextOf(headers), call)
  const { operation } = span
  const trace = sampledTrace(span)
  return {
    trace,
    traceparent: trace && `00-${trace.traceId}-${trace.spanId}-01`,
    ended(outcome, outputs) {
      endGenerated(tracing.tracer, span, outcome)
      metrics.ended({ operation, outcome, outputs, trace })
    },
    rejected(error, durationMs) {
      endRejected(span, error)
      metrics.rejected({ operation, code: error.code, durationMs, trace })
    },
  }
}
