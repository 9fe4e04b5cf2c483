import { labelsOf, type Exemplar, type MetricFamily, type Sample } from './family.ts'
import { otlpAttributes, otlpResource, unixNano, type OtlpResource } from './otlp-json.ts'

/** OTLP's number of cumulative sums. */
const CUMULATIVE = 2

/** The body of an OTLP request for metrics, in JSON. */
export interface OtlpMetrics {
  resourceMetrics: readonly object[]
}

/**
 * Encodes metrics for OTLP over HTTP in JSON; all sums are cumulative since `startMs`.
 *
 * @param resource attributes of the process
 */
export function encodeMetrics(
  families: readonly MetricFamily[],
  resource: OtlpResource,
  { startMs, nowMs }: { startMs: number; nowMs: number },
): OtlpMetrics {
  const times = { startTimeUnixNano: unixNano(startMs), timeUnixNano: unixNano(nowMs) }
  const metrics = families
    .filter(({ samples }) => samples.length > 0)
    .map((family) => {
      const { name, meaning, unit, type } = family.metric
      const dataPoints = family.samples.map((sample) => ({
        attributes: otlpAttributes(labelsOf(family, sample)),
        ...times,
        ...valueOf(sample),
      }))
      const data =
        type === 'gauge'
          ? { gauge: { dataPoints } }
          : type === 'counter'
            ? { sum: { dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: true } }
            : { histogram: { dataPoints, aggregationTemporality: CUMULATIVE } }
      return { name, description: meaning, unit, ...data }
    })
  return {
    resourceMetrics: [
      { resource: otlpResource(resource), scopeMetrics: [{ scope: { name: 'copal' }, metrics }] },
    ],
  }
}

function valueOf(sample: Sample): object {
  if (!('histogram' in sample)) return { asDouble: sample.value }
  const { bounds, counts, sum, exemplars = [] } = sample.histogram
  const bucketCounts = Array.from({ length: bounds.length + 1 }, (_, index) => counts[index] ?? 0)
  return {
    count: String(bucketCounts.reduce((total, count) => total + count, 0)),
    sum,
    bucketCounts: bucketCounts.map(String),
    explicitBounds: bounds,
    exemplars: exemplars.flatMap((exemplar) => (exemplar ? [encodeExemplar(exemplar)] : [])),
  }
}

function encodeExemplar({ value, atMs, traceId, spanId }: Exemplar): object {
  return { asDouble: value, timeUnixNano: unixNano(atMs), traceId, spanId }
}
