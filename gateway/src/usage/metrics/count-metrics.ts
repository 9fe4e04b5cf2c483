import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import type { Sample } from '@copal/shared/telemetry/family.ts'
import { SUM_LABEL, type MetricCount } from '../../storage/db/queries/metric-count-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the metrics that are stored as counts: latencies, errors, scoring outcomes, what became of samples, decisions and updates. */
export function countSamples(counts: readonly MetricCount[], namedDomains: ReadonlySet<string>) {
  const of = (metric: MetricCount['metric']) => counts.filter((count) => count.metric === metric)
  const plain = (metric: MetricCount['metric']): Sample[] =>
    of(metric).map(({ labels, value }) => ({ labels, value }))
  return {
    requestDuration: histograms(of('requestDuration'), DURATION_BOUNDS_MS),
    timeToFirstToken: histograms(of('timeToFirstToken'), FIRST_TOKEN_BOUNDS_MS),
    requestErrors: plain('requestErrors'),
    scoringOutcomes: plain('scoringOutcomes'),
    samplerDecisions: samplerDecisions(of('samplerDecisions'), namedDomains),
    redactions: plain('redactions'),
    decisions: plain('decisions'),
    recordsDeleted: plain('recordsDeleted'),
    updatesEnded: of('updates').flatMap(({ labels, value }) => (value > 0 ? [{ labels, value }] : [])),
    updatesDue: plain('updatesDue'),
  } satisfies Partial<MetricSamples>
}

/** Returns a histogram in seconds for each model. */
function histograms(counts: readonly MetricCount[], boundsMs: readonly number[]): Sample[] {
  const bounds = boundsMs.map((bound) => bound / 1000)
  return Array.from(
    Map.groupBy(counts, ({ labels: [model = ''] }) => model),
    ([model, own]) => {
      const valueOf = (label: string) => own.find(({ labels }) => labels[1] === label)?.value ?? 0
      const buckets = Array.from({ length: bounds.length + 1 }, (_, bucket) => valueOf(String(bucket)))
      return { labels: [model], histogram: { bounds, counts: buckets, sum: valueOf(SUM_LABEL) / 1000 } }
    },
  )
}

/** Returns the counts of samples, with the domains that have no series of their own added up. */
function samplerDecisions(counts: readonly MetricCount[], namedDomains: ReadonlySet<string>): Sample[] {
  const sums = new Map<string, { labels: string[]; value: number }>()
  for (const { labels, value } of counts) {
    const [domain = '', decision = ''] = labels
    const isNamed = namedDomains.has(domain) || domain === UNASSIGNED
    const own = [isNamed ? domain : OTHER_DOMAINS, decision]
    const key = own.join('\0')
    const known = sums.get(key)
    sums.set(key, { labels: own, value: (known?.value ?? 0) + value })
  }
  return [...sums.values()]
}
