import {
  ROOT_CONTEXT,
  SpanKind,
  TraceFlags,
  createContextKey,
  trace,
  type Context,
  type Span,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, type ReadableSpan, type SpanProcessor } from '@opentelemetry/sdk-trace-base'
import type { RequestTrace } from '../contracts/request-trace.ts'

/** Makes the traces of an isolate's requests. */
export interface Tracing {
  /**
   * Starts the server span of a request, as a child of the caller's span if its headers name one.
   * `finished` gets the ended spans once none of the request's is open any more.
   */
  begin(name: string, headers: Headers, finished: (spans: ReadableSpan[]) => void): RequestTrace
}

interface Recording {
  open: number
  ended: ReadableSpan[]
  finished: (spans: ReadableSpan[]) => void
}

const RECORDING = createContextKey('copal request recording')

/** Composes the OpenTelemetry SDK for Workers: no global provider, no timers, spans handed back per request. */
export function createTracing(): Tracing {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'copal-gateway' }),
    spanProcessors: [createRequestProcessor()],
  })
  const tracer = provider.getTracer('copal-gateway')
  const propagator = new W3CTraceContextPropagator()
  return {
    begin(name, headers, finished) {
      const recording: Recording = { open: 0, ended: [], finished }
      const parent = propagator.extract(ROOT_CONTEXT.setValue(RECORDING, recording), headers, {
        get: (carrier, key) => carrier.get(key) ?? undefined,
        keys: (carrier) => [...carrier.keys()],
      })
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER }, parent)
      const context = trace.setSpan(parent, span)
      return {
        span,
        startCall: (callName, attributes) =>
          tracer.startSpan(callName, { kind: SpanKind.CLIENT, attributes }, context),
        headers(callSpan) {
          const carrier: Record<string, string> = {}
          propagator.inject(trace.setSpan(context, callSpan), carrier, {
            set: (target, key, value) => void (target[key] = value),
          })
          return carrier
        },
      }
    },
  }
}

/** Collects the spans of each request, which its context carries, and hands them over when the last one ends. */
function createRequestProcessor(): SpanProcessor {
  const recordings = new WeakMap<object, Recording>()
  return {
    onStart(span: Span & object, context: Context) {
      const recording = context.getValue(RECORDING) as Recording | undefined
      if (!recording) return
      recording.open += 1
      recordings.set(span, recording)
    },
    onEnd(span: ReadableSpan) {
      const recording = recordings.get(span)
      if (!recording) return
      recording.open -= 1
      if (span.spanContext().traceFlags & TraceFlags.SAMPLED) recording.ended.push(span)
      if (recording.open === 0) recording.finished(recording.ended.splice(0))
    },
    forceFlush: async () => {},
    shutdown: async () => {},
  }
}
