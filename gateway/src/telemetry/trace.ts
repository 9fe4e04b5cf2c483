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
import {
  AlwaysOnSampler,
  BasicTracerProvider,
  type ReadableSpan,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import type { RequestTrace } from '../contracts/request-trace.ts'

/** Creates the traces of an isolate's requests. */
export interface Tracing {
  /**
   * Starts the server span of a request, as a child of the caller's span if its headers name one, also if the caller does
   * not sample. `onEnd` receives the
   * sampled spans of the request when the last one has ended.
   */
  begin(name: string, headers: Headers, onEnd: (spans: ReadableSpan[]) => void): RequestTrace
}

interface RequestSpans {
  open: number
  ended: ReadableSpan[]
  onEnd: (spans: ReadableSpan[]) => void
}

const REQUEST_SPANS = createContextKey('copal request spans')

/** Sets up the OpenTelemetry SDK for Workers: no global provider, no timers, and the spans are returned per request. */
export function createTracing(): Tracing {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'copal-gateway' }),
    // By default a client that names a trace which is not sampled would hide its requests from the operator.
    sampler: new AlwaysOnSampler(),
    spanProcessors: [createRequestProcessor()],
  })
  const tracer = provider.getTracer('copal-gateway')
  const propagator = new W3CTraceContextPropagator()
  return {
    begin(name, headers, onEnd) {
      const requestSpans: RequestSpans = { open: 0, ended: [], onEnd }
      const parent = propagator.extract(ROOT_CONTEXT.setValue(REQUEST_SPANS, requestSpans), headers, {
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

/** Creates the processor that collects the spans of each request, by its context, and passes them on when the last ends. */
function createRequestProcessor(): SpanProcessor {
  const spansByObject = new WeakMap<object, RequestSpans>()
  return {
    onStart(span: Span & object, context: Context) {
      const requestSpans = context.getValue(REQUEST_SPANS) as RequestSpans | undefined
      if (!requestSpans) return
      requestSpans.open += 1
      spansByObject.set(span, requestSpans)
    },
    onEnd(span: ReadableSpan) {
      const requestSpans = spansByObject.get(span)
      if (!requestSpans) return
      requestSpans.open -= 1
      if (span.spanContext().traceFlags & TraceFlags.SAMPLED) requestSpans.ended.push(span)
      if (requestSpans.open === 0) requestSpans.onEnd(requestSpans.ended.splice(0))
    },
    forceFlush: async () => {},
    shutdown: async () => {},
  }
}
