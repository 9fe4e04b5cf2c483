import type { Exemplar, HistogramValue, LabelValues, MetricFamily, Sample } from './family.ts'
import type { Metric } from './metric.ts'

/** One value for each label of a metric, in their order; an empty one is left out. */
export type ValuesOf<Labels extends readonly string[]> = { readonly [Index in keyof Labels]: string | number }

/** The trace of a measurement; undefined where it is not sampled. */
export type MeasuredIn = Pick<Exemplar, 'traceId' | 'spanId'> | undefined

/** Series of a metric after which further values are counted as one series `(other)`. */
export const MAX_SERIES = 500
const OTHER = '(other)'

/** A sum that only grows. */
export interface Counter<Labels extends readonly string[]> {
  add(value: number, ...labels: ValuesOf<Labels>): void
}

/** A distribution. */
export interface Histogram<Labels extends readonly string[]> {
  record(value: number, trace: MeasuredIn, ...labels: ValuesOf<Labels>): void
}

/** The instruments of a process. */
export interface Meter {
  counter<Labels extends readonly string[]>(
    metric: Metric & { type: 'counter'; labels: Labels },
  ): Counter<Labels>
  histogram<Labels extends readonly string[]>(
    metric: Metric & { type: 'histogram'; labels: Labels },
    bounds: readonly number[],
  ): Histogram<Labels>
  /** Reads values at every collection; also of a counter that something else counts. */
  observe<Labels extends readonly string[]>(
    metric: Metric & { type: 'gauge' | 'counter'; labels: Labels },
    read: () => Iterable<readonly [value: number, ...labels: ValuesOf<Labels>]>,
  ): void
  /** Returns all metrics with their series. */
  collect(): MetricFamily[]
}

/**
 * Creates a meter without instruments.
 *
 * Own code and not `@opentelemetry/sdk-metrics`: that has no exemplars, and finds a series by sorting and hashing its
 * attributes, which takes some ten times as long. A step makes five such calls.
 */
export function createMeter(nowMs: () => number = Date.now): Meter {
  const collectors: (() => MetricFamily)[] = []
  return {
    counter(metric) {
      const series = createSeries(() => ({ value: 0 }))
      collectors.push(() => ({ metric, samples: series.list((labels, { value }) => ({ labels, value })) }))
      return {
        add(value, ...labels) {
          series.of(labels).value += value
        },
      }
    },
    histogram(metric, bounds) {
      const series = createSeries(() => createBuckets(bounds))
      collectors.push(() => ({
        metric,
        samples: series.list((labels, buckets) => ({ labels, histogram: copyOf(buckets) })),
      }))
      return {
        record(value, trace, ...labels) {
          const buckets = series.of(labels)
          const index = bucketOf(bounds, value)
          buckets.counts[index]! += 1
          buckets.sum += value
          if (trace)
            buckets.exemplars[index] = { value, atMs: nowMs(), traceId: trace.traceId, spanId: trace.spanId }
        },
      }
    },
    observe(metric, read) {
      collectors.push(() => ({
        metric,
        samples: Array.from(read(), ([value, ...labels]): Sample => ({ labels, value })),
      }))
    },
    collect: () => collectors.map((collect) => collect()),
  }
}

/** The series of one metric by the values of their labels, at most {@link MAX_SERIES} and one for the rest. */
function createSeries<Value>(create: () => Value) {
  const byKey = new Map<string | number, { labels: LabelValues; value: Value }>()
  return {
    of(labels: LabelValues): Value {
      const key = labels.length === 1 ? labels[0]! : labels.join('\0')
      const known = byKey.get(key)
      if (known) return known.value
      if (byKey.size >= MAX_SERIES && !labels.every((label) => label === OTHER))
        return this.of(labels.map(() => OTHER))
      const value = create()
      byKey.set(key, { labels: [...labels], value })
      return value
    },
    list: (toSample: (labels: LabelValues, value: Value) => Sample): Sample[] =>
      [...byKey.values()].map(({ labels, value }) => toSample(labels, value)),
  }
}

interface Buckets extends HistogramValue {
  counts: Float64Array
  sum: number
  exemplars: (Exemplar | undefined)[]
}

function createBuckets(bounds: readonly number[]): Buckets {
  return { bounds, counts: new Float64Array(bounds.length + 1), sum: 0, exemplars: [] }
}

function copyOf({ bounds, counts, sum, exemplars }: Buckets): HistogramValue {
  return { bounds, counts: counts.slice(), sum, exemplars: [...exemplars] }
}

/** Returns the index of the first bucket whose upper bound is at least the value. */
function bucketOf(bounds: readonly number[], value: number): number {
  let index = 0
  while (index < bounds.length && value > bounds[index]!) index++
  return index
}
