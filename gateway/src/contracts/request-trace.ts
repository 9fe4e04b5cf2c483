import type { Span, Attributes } from '@opentelemetry/api'

/** The spans of one request. The context is passed explicitly; there is no ambient one. */
export interface RequestTrace {
  /** The server span of the request. */
  readonly span: Span
  /** Starts a child of the server span for a call to a node. The caller ends it. */
  startCall(name: string, attributes: Attributes): Span
  /** Returns the `traceparent` (and `tracestate`) headers that make the callee's spans children of `span`. */
  headers(span: Span): Record<string, string>
}
