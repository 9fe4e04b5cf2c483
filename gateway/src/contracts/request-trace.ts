import type { Span, Attributes } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base'

/** The spans of one request. The context is passed explicitly; there is no ambient one. */
export interface RequestTrace {
  /** The server span of the request; it records nothing if the request is not sampled. */
  readonly span: Span
  /** Starts a child of the server span for a call to a node. The caller ends it. */
  startCall(name: string, attributes: Attributes): Span
  /** Starts a child of a span for work in the gateway. The caller ends it. */
  startPart(name: string, parent: Span, attributes: Attributes): Span
  /** Returns the `traceparent` (and `tracestate`) headers that make the callee's spans children of `span`. */
  headers(span: Span): Record<string, string>
}

/** Creates the traces of an isolate's requests. */
export interface Tracing {
  /**
   * Starts the server span of a request, as a child of the caller's span if its headers name one. The sampler decides
   * whether it is made. `onEnd` receives the spans of a sampled request when the last one has ended.
   */
  begin(name: string, headers: Headers, onEnd: (spans: ReadableSpan[]) => void): RequestTrace
}
