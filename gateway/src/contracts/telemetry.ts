import type { Attributes } from '@opentelemetry/api'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'
import type { Tracing } from './request-trace.ts'

/** A span whose start and end are known when it is made. */
export interface EndedSpan {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string | undefined
  /** Unix milliseconds. */
  readonly startMs: number
  readonly endMs: number
  readonly attributes: Attributes
  /** The error code of what failed. */
  readonly errorType?: string | undefined
}

/** An event of the Worker, which stays alive until telemetry is sent. */
export interface TelemetryEvent {
  nowMs(): number
  waitUntil(work: Promise<unknown>): void
}

/** The telemetry of an isolate. */
export interface GatewayTelemetry {
  readonly settings: OtelSettings
  readonly tracing: Tracing
  /** Sends spans, with those of other events, after the batching delay; does nothing without a collector. */
  send(event: TelemetryEvent, spans: readonly ReadableSpan[]): void
  /** Sends spans that have ended. */
  sendEnded(event: TelemetryEvent, spans: readonly EndedSpan[]): void
}
