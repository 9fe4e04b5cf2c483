import {
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
  type Context,
  type Span,
  type Tracer,
} from '@opentelemetry/api'
import type { MeasuredIn } from '@copal/shared/telemetry/instruments.ts'
import type { AppError } from '@copal/shared/errors.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { unixOffsetMs } from '../../platform/clock.ts'
import { operationOf, PROVIDER, type Operation } from './operations.ts'

/** The span of one call, from its arrival until its generation has ended. */
export interface CallSpan {
  readonly span: Span
  readonly context: Context
  readonly operation: Operation
}

/** A call that is traced. */
export interface TracedCall {
  /** Its path. */
  route: string
  requestId: string
  domain: string
  model: string
}

/** Starts the server span of a call as a child of the caller's. */
export function startCallSpan(
  tracer: Tracer,
  parent: Context,
  { route, requestId, domain, model }: TracedCall,
): CallSpan {
  const operation = operationOf(route)
  const span = tracer.startSpan(`POST ${route}`, { kind: SpanKind.SERVER }, parent)
  if (span.isRecording())
    span.setAttributes({
      'http.request.method': 'POST',
      'http.route': route,
      'url.path': route,
      'gen_ai.operation.name': operation,
      'gen_ai.provider.name': PROVIDER,
      'gen_ai.request.model': model,
      'copal.request': requestId,
      'copal.domain': domain,
    })
  return { span, context: trace.setSpan(parent, span), operation }
}

/** Returns the trace of a call for exemplars and log lines; undefined if it is not sampled. */
export function sampledTrace({ span }: Pick<CallSpan, 'span'>): MeasuredIn {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return traceFlags & TraceFlags.SAMPLED && span.isRecording() ? { traceId, spanId } : undefined
}

/** Ends the span of a call that failed before it generated anything. */
export function endRejected({ span }: CallSpan, error: AppError): void {
  recordError(span, error)
  span.end()
}

/**
 * Ends the span of a call whose generation has ended. Adds the child spans `queue`, `prefill` and `decode`, from the times
 * that the engine recorded.
 */
export function endGenerated(tracer: Tracer, { span, context }: CallSpan, outcome: GenerationOutcome): void {
  if (!span.isRecording()) return
  const { arrivedMs, startedMs, firstTokenMs, endedMs } = outcome.times
  const { promptTokens, cachedTokens, completionTokens } = outcome
  const offsetMs = unixOffsetMs()
  const phase = (name: string, startMs: number, endMs: number, attributes = {}) =>
    tracer.startSpan(name, { startTime: startMs + offsetMs, attributes }, context).end(endMs + offsetMs)
  phase('queue', arrivedMs, startedMs ?? endedMs)
  if (startedMs !== null)
    phase('prefill', startedMs, firstTokenMs ?? endedMs, {
      'copal.prompt_tokens': promptTokens,
      'copal.prompt_tokens_cached': cachedTokens,
    })
  if (firstTokenMs !== null)
    phase('decode', firstTokenMs, endedMs, { 'copal.completion_tokens': completionTokens })
  span.setAttributes({
    'gen_ai.usage.input_tokens': promptTokens,
    'gen_ai.usage.output_tokens': completionTokens,
    'gen_ai.response.finish_reasons': [outcome.finishReason],
    ...(outcome.weights ? { 'copal.mask': outcome.weights.version } : {}),
  })
  if (outcome.error && outcome.finishReason !== 'cancelled') recordError(span, outcome.error)
  span.end(endedMs + offsetMs)
}

/** Records an error by its code. The message of one that the client caused may quote the request, so it is left out. */
function recordError(span: Span, { code, status, message }: AppError): void {
  span.setAttributes({ 'error.type': code, 'http.response.status_code': status })
  span.setStatus({ code: SpanStatusCode.ERROR, ...(status >= 500 ? { message } : {}) })
}
