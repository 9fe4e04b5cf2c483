import type { Attributes } from '@opentelemetry/api'
import type { RequestSpan } from '../contracts/request-trace.ts'
import type { EndedSpan } from '../contracts/telemetry.ts'

/** The spans of a sampled request until the last one has ended. */
export interface RequestSpans {
  open: number
  ended: EndedSpan[]
  readonly onEnd: (spans: EndedSpan[]) => void
}

/** A span of a sampled request. */
export class RecordedSpan implements RequestSpan, EndedSpan {
  readonly isSampled = true
  readonly kind: EndedSpan['kind']
  name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly startMs: number
  endMs = 0
  readonly attributes: Attributes
  errorType: string | undefined
  readonly #request: RequestSpans

  constructor(
    request: RequestSpans,
    { kind, name, traceId, spanId, parentSpanId }: Omit<EndedSpan, 'startMs' | 'endMs' | 'attributes'>,
    attributes: Attributes = {},
  ) {
    this.kind = kind
    this.name = name
    this.traceId = traceId
    this.spanId = spanId
    this.parentSpanId = parentSpanId
    this.attributes = { ...attributes }
    this.startMs = Date.now()
    this.#request = request
    request.open += 1
  }

  rename(name: string): void {
    this.name = name
  }

  setAttributes(attributes: Attributes): void {
    Object.assign(this.attributes, attributes)
  }

  fail(errorType: string): void {
    this.errorType = errorType
  }

  end(): void {
    if (this.endMs > 0) return
    this.endMs = Date.now()
    const request = this.#request
    request.open -= 1
    request.ended.push(this)
    if (request.open === 0) request.onEnd(request.ended.splice(0))
  }
}

/** The span of a request that is not sampled. */
export class UnsampledSpan implements RequestSpan {
  readonly isSampled = false
  readonly traceId: string
  readonly spanId: string

  constructor(traceId: string, spanId: string) {
    this.traceId = traceId
    this.spanId = spanId
  }

  rename(): void {}
  setAttributes(): void {}
  fail(): void {}
  end(): void {}
}
