import {
  INVALID_SPAN_CONTEXT,
  ROOT_CONTEXT,
  SpanKind,
  createContextKey,
  trace,
  type Context,
  type Span,
  type TextMapGetter,
  type TextMapSetter,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, type ReadableSpan, type SpanProcessor } from '@opentelemetry/sdk-trace-base'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { createSampler } from '@copal/shared/telemetry/sampler.ts'
import type { RequestTrace, Tracing } from '../contracts/request-trace.ts'

interface RequestSpans {
  open: number
  ended: ReadableSpan[]
  onEnd: (spans: ReadableSpan[]) => void
}

const REQUEST_SPANS = createContextKey('copal request spans')
const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT)
const GETTER: TextMapGetter<Headers> = {
  get: (carrier, key) => carrier.get(key) ?? undefined,
  keys: (carrier) => [...carrier.keys()],
}
const SETTER: TextMapSetter<Record<string, string>> = {
  set: (target, key, value) => void (target[key] = value),
}

/**
 * Sets up the OpenTelemetry SDK for Workers: no global provider, no timers, and the spans are returned per request.
 * Without a collector there is no span at all, and the caller's trace context goes on to the node as it came.
 */
export function createTracing(settings: Pick<OtelSettings, 'traces' | 'sampler' | 'resource'>): Tracing {
  const propagator = new W3CTraceContextPropagator()
  if (!settings.traces) return passOn(propagator)
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ ...settings.resource }),
    sampler: createSampler(settings.sampler),
    spanProcessors: [createRequestProcessor()],
  })
  const tracer = provider.getTracer('copal-gateway')
  return {
    begin(name, headers, onEnd) {
      const requestSpans: RequestSpans = { open: 0, ended: [], onEnd }
      const base = ROOT_CONTEXT.setValue(REQUEST_SPANS, requestSpans)
      const parent = propagator.extract(base, headers, GETTER)
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER }, parent)
      const contextOf = (other: Span) => trace.setSpan(parent, other)
      // Children of a span that is not sampled are that span: they cost nothing.
      const child: RequestTrace['startPart'] = span.isRecording()
        ? (partName, of, attributes) => tracer.startSpan(partName, { attributes }, contextOf(of))
        : () => span
      return {
        span,
        startPart: child,
        startCall: (callName, attributes) =>
          span.isRecording()
            ? tracer.startSpan(callName, { kind: SpanKind.CLIENT, attributes }, contextOf(span))
            : span,
        headers: (of) => headersOf(propagator, contextOf(of)),
      }
    },
  }
}

/** Creates the tracing of a gateway without a collector. */
function passOn(propagator: W3CTraceContextPropagator): Tracing {
  return {
    begin: (_name, headers) => ({
      span: NO_SPAN,
      startCall: () => NO_SPAN,
      startPart: () => NO_SPAN,
      headers: () =>
        headers.has('traceparent')
          ? headersOf(propagator, propagator.extract(ROOT_CONTEXT, headers, GETTER))
          : {},
    }),
  }
}

function headersOf(propagator: W3CTraceContextPropagator, context: Context): Record<string, string> {
  const carrier: Record<string, string> = {}
  propagator.inject(context, carrier, SETTER)
  return carrier
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
      requestSpans.ended.push(span)
      if (requestSpans.open === 0) requestSpans.onEnd(requestSpans.ended.splice(0))
    },
    forceFlush: async () => {},
    shutdown: async () => {},
  }
}
