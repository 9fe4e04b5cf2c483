import type { Attributes } from '@opentelemetry/api'
import type { EndedSpan } from './telemetry.ts'

/** A span of a request. */
export interface RequestSpan {
  /** False if the request is not sampled: the span records nothing and is never sent. */
  readonly isSampled: boolean
  readonly traceId: string
  readonly spanId: string
  rename(name: string): void
  setAttributes(attributes: Attributes): void
  /** Marks what the span is about as failed. */
  fail(errorType: string): void
  /** Ends the span; later calls do nothing. */
  end(): void
}

/** The spans of one request. The context is passed explicitly; there is no ambient one. */
export interface RequestTrace {
  /** The server span of the request. */
  readonly span: RequestSpan
  /** Starts a child of the server span for a call to a node. The caller ends it. */
  startCall(name: string, attributes: Attributes): RequestSpan
  /** Starts a child of a span for work in the gateway. The caller ends it. */
  startPart(name: string, parent: RequestSpan, attributes: Attributes): RequestSpan
  /** Returns the `traceparent` (and `tracestate`) headers that make the callee's spans children of `span`. */
  headers(span: RequestSpan): Record<string, string>
}

/** Creates the traces of an isolate's requests. */
export interface Tracing {
  /**
   * Starts the server span of a request, as a child of the caller's span if its headers name one. The sampler decides
   * whether it is made. `onEnd` receives the spans of a sampled request when the last one has ended.
   */
  begin(name: string, headers: Headers, onEnd: (spans: EndedSpan[]) => void): RequestTrace
}
