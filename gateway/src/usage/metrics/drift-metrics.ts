import type { Sample } from '@copal/shared/telemetry/family.ts'
import type { UsageRow } from '../../storage/db/queries/metric-total-queries.ts'
import { MOVED } from '../../storage/db/queries/usage-total-queries.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the loss of sampled traffic under masks and under dense weights. */
export function driftSamples(rows: readonly UsageRow[]) {
  const all = sumsOf(rows)
  // By the domains that requests were settled under, because a counter must not fall.
  const settled = sumsOf(rows.filter(({ finishReason }) => finishReason !== MOVED))
  return {
    driftGap: all.map(({ labels, nllMasked, nllDense, tokens }) => ({
      labels,
      value: (nllMasked - nllDense) / tokens,
    })),
    driftNll: settled.flatMap(({ labels, nllMasked, nllDense }): Sample[] => [
      { labels: [...labels, 'pruned'], value: nllMasked },
      { labels: [...labels, 'dense'], value: nllDense },
    ]),
    driftTokens: settled.map(({ labels, tokens }) => ({ labels, value: tokens })),
    driftRequests: settled.map(({ labels, requests }) => ({ labels, value: requests })),
  } satisfies Partial<MetricSamples>
}

/** Returns the sums over finish reasons, where anything was scored. */
function sumsOf(rows: readonly UsageRow[]) {
  const groups = Map.groupBy(rows, ({ model, domain, maskVersion }) =>
    JSON.stringify([model, domain, maskVersion]),
  )
  return Array.from(groups.values(), (group) => {
    const sum = (value: (row: UsageRow) => number) => group.reduce((total, row) => total + value(row), 0)
    const [{ model, domain, maskVersion } = { model: '', domain: '', maskVersion: 0 }] = group
    return {
      labels: [model, domain, maskVersion],
      requests: sum((row) => row.driftRequests),
      tokens: sum((row) => row.driftTokens),
      nllMasked: sum((row) => row.nllMasked),
      nllDense: sum((row) => row.nllDense),
    }
  }).filter(({ requests, tokens }) => requests > 0 && tokens > 0)
}
