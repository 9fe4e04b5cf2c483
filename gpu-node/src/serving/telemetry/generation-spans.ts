import { SpanKind, SpanStatusCode, trace, type Context, type Span, type Tracer } from '@opentelemetry/api'
import type { GenerationOutcome } from '../engine/generation-request.ts'

/** The span of one call, from its arrival until its generation has ended. */
export interface CallSpan {
  readonly span: Span
  readonly context: Context
}

/** Starts the server span of a call as a child of the caller's. */
export function startCallSpan(tracer: Tracer, parent: Context, route: string): CallSpan {
  const span = tracer.startSpan(
    `POST ${route}`,
    { kind: SpanKind.SERVER, attributes: { 'http.request.method': 'POST', 'http.route': route } },
    parent,
  )
  return { span, context: trace.setSpan(parent, span) }
}

/** Ends the span of a call that failed before it generated anything. */
export function endRejected({ span }: CallSpan, error: Error): void {
  span.recordException(error)
  span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
  span.end()
}

/**
 * Ends the span of a call whose generation has ended. Adds the child spans `queue`, `prefill` and `decode`, from the times
 * that the engine recorded.
 */
export function endGenerated(tracer: Tracer, { span, context }: CallSpan, outcome: GenerationOutcome): void {
  const { arrivedMs, startedMs, firstTokenMs, endedMs } = outcome.times
  const phase = (name: string, startMs: number, endMs: number) =>
    tracer.startSpan(name, { startTime: startMs }, context).end(endMs)
  phase('queue', arrivedMs, startedMs ?? endedMs)
  if (startedMs !== null) phase('prefill', startedMs, firstTokenMs ?? endedMs)
  if (firstTokenMs !== null) phase('decode', firstTokenMs, endedMs)
  span.setAttributes({
    'gen_ai.usage.input_tokens': outcome.promptTokens,
    'gen_ai.usage.output_tokens': outcome.completionTokens,
    'gen_ai.response.finish_reasons': [outcome.finishReason],
    ...(outcome.weights ? { 'copal.mask': outcome.weights.version } : {}),
  })
  if (outcome.error && outcome.finishReason !== 'cancelled') {
    span.recordException(outcome.error)
    span.setStatus({ code: SpanStatusCode.ERROR, message: outcome.error.message })
  }
  span.end(endedMs)
}
