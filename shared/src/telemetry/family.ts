import type { Metric } from './metric.ts'

/** Values of the labels of a metric, in their order; an empty one is left out. */
export type LabelValues = readonly (string | number)[]

/** A measured value with the trace that it was measured in. */
export interface Exemplar {
  readonly value: number
  /** Unix milliseconds. */
  readonly atMs: number
  readonly traceId: string
  readonly spanId: string
}

/** The counts of a histogram. */
export interface HistogramValue {
  /** Upper bounds of the buckets, ascending; the last bucket has none. */
  readonly bounds: readonly number[]
  /** Values of each bucket, one more than bounds, not cumulative. */
  readonly counts: ArrayLike<number>
  readonly sum: number
  /** The newest exemplar of each bucket. */
  readonly exemplars?: readonly (Exemplar | undefined)[]
}

/** One series of a metric. */
export type Sample =
  | { readonly labels: LabelValues; readonly value: number }
  | { readonly labels: LabelValues; readonly histogram: HistogramValue }

/** A metric with its series at one time. */
export interface MetricFamily {
  readonly metric: Metric
  readonly samples: readonly Sample[]
  /** A label in front of those of the metric, such as `tenant`. */
  readonly extraLabel?: string
}

/** Returns the labels of a sample that have a value, with their OpenTelemetry names. */
export function labelsOf(
  { metric, extraLabel }: MetricFamily,
  { labels }: Sample,
): [string, string | number][] {
  const names = extraLabel === undefined ? metric.labels : [extraLabel, ...metric.labels]
  return names.flatMap((name, index): [string, string | number][] => {
    const value = labels[index]
    return value === undefined || value === '' ? [] : [[name, value]]
  })
}
