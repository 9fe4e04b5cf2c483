import type { Sample } from '@copal/shared/telemetry/family.ts'
import type { RejectionCount } from '../../contracts/fleet-object.ts'
import type { UsageRow } from '../../storage/db/queries/metric-total-queries.ts'
import { ESTIMATED, MOVED } from '../../storage/db/queries/usage-total-queries.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the counts of requests and tokens by model, domain and mask. */
export function usageSamples(rows: readonly UsageRow[]) {
  const counter = (value: (row: UsageRow) => number): Sample[] =>
    rows
      .filter(
        ({ finishReason, requests }) =>
          finishReason !== ESTIMATED && finishReason !== MOVED && requests !== 0,
      )
      .map((row) => ({ labels: [...labelsOf(row), row.finishReason], value: value(row) }))
  const tokens = (row: UsageRow) => row.promptTokens + row.completionTokens
  // Gauges: an estimate falls when the receipt arrives after all, and a domain may lose what is found to be another's.
  const gauge = (reason: UsageRow['finishReason'], value: (row: UsageRow) => number): Sample[] =>
    rows
      .filter((row) => row.finishReason === reason && (row.requests !== 0 || tokens(row) !== 0))
      .map((row) => ({ labels: labelsOf(row), value: value(row) }))
  return {
    requests: counter(({ requests }) => requests),
    promptTokens: counter(({ promptTokens }) => promptTokens),
    completionTokens: counter(({ completionTokens }) => completionTokens),
    requestsEstimated: gauge(ESTIMATED, ({ requests }) => requests),
    tokensEstimated: gauge(ESTIMATED, tokens),
    requestsMoved: gauge(MOVED, ({ requests }) => requests),
    tokensMoved: gauge(MOVED, tokens),
  } satisfies Partial<MetricSamples>
}

/** Returns the counts of requests that got no node, over the given tenants. */
export function rejectionSamples(rejections: readonly RejectionCount[]): MetricSamples<'requestsRefused'> {
  const groups = Map.groupBy(rejections, ({ model, reason }) => JSON.stringify([model, reason]))
  return {
    requestsRefused: Array.from(groups.values(), (group): Sample => {
      const [{ model, reason } = { model: '', reason: '' }] = group
      return { labels: [model, reason], value: group.reduce((sum, { requests }) => sum + requests, 0) }
    }),
  }
}

function labelsOf({ model, domain, maskVersion }: UsageRow) {
  return [model, domain, maskVersion]
}
