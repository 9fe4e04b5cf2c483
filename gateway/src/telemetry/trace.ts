import {
  ROOT_CONTEXT,
  SpanKind,
  TraceFlags,
  isSpanContextValid,
  trace,
  type Attributes,
  type Context,
  type SpanContext,
  type TextMapGetter,
  type TextMapSetter,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { RandomIdGenerator, SamplingDecision } from '@opentelemetry/sdk-trace-base'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { createSampler } from '@copal/shared/telemetry/sampler.ts'
import type { RequestSpan, Tracing } from '../contracts/request-trace.ts'
import { RecordedSpan, UnsampledSpan } from './request-span.ts'

const GETTER: TextMapGetter<Headers> = {
  get: (carrier, key) => carrier.get(key) ?? undefined,
  keys: (carrier) => [...carrier.keys()],
}
const SETTER: TextMapSetter<Record<string, string>> = {
  set: (target, key, value) => void (target[key] = value),
}
const NO_SPAN = new UnsampledSpan('', '')

/**
 * Sets up tracing for Workers with the sampler, the ids and the propagation of the OpenTelemetry SDK. Its spans are made here,
 * so that all spans of the gateway are of one kind: those of updates and settlements have ids that the SDK cannot be given.
 *
 * Without a collector there is no span at all, and the caller's trace context goes on to the node as it came.
 */
export function createTracing(settings: Pick<OtelSettings, 'traces' | 'sampler'>): Tracing {
  const propagator = new W3CTraceContextPropagator()
  if (!settings.traces) return passOn(propagator)
  const sampler = createSampler(settings.sampler)
  const ids = new RandomIdGenerator()
  return {
    begin(name, headers, onEnd) {
      const caller = propagator.extract(ROOT_CONTEXT, headers, GETTER)
      const callerSpan = trace.getSpanContext(caller)
      const parent = callerSpan && isSpanContextValid(callerSpan) ? callerSpan : undefined
      const traceId = parent?.traceId ?? ids.generateTraceId()
      const sampling = sampler.shouldSample(caller, traceId, name, SpanKind.SERVER, {}, [])
      const traceState = sampling.traceState ?? parent?.traceState
      const isSampled = sampling.decision === SamplingDecision.RECORD_AND_SAMPLED
      const traceFlags = isSampled ? TraceFlags.SAMPLED : TraceFlags.NONE
      const contextOf = ({ spanId }: RequestSpan): SpanContext => ({
        traceId,
        spanId,
        traceFlags,
        ...(traceState ? { traceState } : {}),
      })
      const propagate = (of: RequestSpan) =>
        headersOf(propagator, trace.setSpanContext(ROOT_CONTEXT, contextOf(of)))
      if (!isSampled) {
        const span = new UnsampledSpan(traceId, ids.generateSpanId())
        // Its children are that span: they cost nothing.
        return { span, startCall: () => span, startPart: () => span, headers: propagate }
      }
      const request = { open: 0, ended: [], onEnd }
      const start = (
        kind: 'internal' | 'server' | 'client',
        as: string,
        of?: string,
        attributes?: Attributes,
      ) =>
        new RecordedSpan(
          request,
          { kind, name: as, traceId, spanId: ids.generateSpanId(), parentSpanId: of },
          attributes,
        )
      const span = start('server', name, parent?.spanId)
      return {
        span,
        startCall: (callName, attributes) => start('client', callName, span.spanId, attributes),
        startPart: (partName, of, attributes) => start('internal', partName, of.spanId, attributes),
        headers: propagate,
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
