/** The series of a domain over masks, joined into lines. */
import type { MaskSeries, SeriesReport } from '@copal/shared/wire/admin-series.ts'

/** Means at each period with the bounds of their intervals; null where too little was scored. */
export interface EstimateLine {
  values: (number | null)[]
  lower: (number | null)[]
  upper: (number | null)[]
}

/** Losses and traffic of one domain at each period of a report. */
export interface DomainSeries {
  domain: string
  /** Loss under dense weights, nats a token. */
  dense: EstimateLine
  /** Loss under the mask that most scored requests had, nats a token. */
  pruned: EstimateLine
  /** `pruned` minus `dense`. */
  gap: EstimateLine
  requests: number[]
  tokens: number[]
  totals: {
    requests: number
    failed: number
    tokens: number
    scored: number
    /** Requests that were not scored, by the reason. */
    notScored: Record<keyof MaskSeries['not_scored'], number>
  }
}

/** Joins the masks of a domain: each period shows the mask under which most of its requests were scored. */
export function joinMasks(report: SeriesReport, domain: string): DomainSeries {
  const length = report.starts.length
  const joined: DomainSeries = {
    domain,
    dense: emptyLine(length),
    pruned: emptyLine(length),
    gap: emptyLine(length),
    requests: zeros(length),
    tokens: zeros(length),
    totals: {
      requests: 0,
      failed: 0,
      tokens: 0,
      scored: 0,
      notScored: { not_sampled: 0, too_short: 0, budget: 0, evicted: 0, failed: 0 },
    },
  }
  const mostScored = zeros(length)
  for (const series of report.series) {
    if (series.domain !== domain) continue
    for (const [index, period] of series.periods.entries()) {
      const requests = series.requests[index] ?? 0
      const tokens = (series.prompt_tokens[index] ?? 0) + (series.completion_tokens[index] ?? 0)
      const scored = series.scored_requests[index] ?? 0
      joined.requests[period] = (joined.requests[period] ?? 0) + requests
      joined.tokens[period] = (joined.tokens[period] ?? 0) + tokens
      addTotals(joined.totals, series, index, { requests, tokens, scored })
      if (scored <= (mostScored[period] ?? 0)) continue
      mostScored[period] = scored
      for (const name of ['dense', 'pruned', 'gap'] as const) {
        const line = joined[name]
        line.values[period] = series[name].mean[index] ?? null
        line.lower[period] = series[name].lower[index] ?? null
        line.upper[period] = series[name].upper[index] ?? null
      }
    }
  }
  return joined
}

/** Applies a function to the values and bounds of a line. */
export function mapLine(
  { values, lower, upper }: EstimateLine,
  change: (value: number) => number,
): EstimateLine {
  const map = (column: readonly (number | null)[]) =>
    column.map((value) => (value === null ? null : change(value)))
  return { values: map(values), lower: map(lower), upper: map(upper) }
}

/** The last known mean of a line with its bounds. */
export function lastKnown({
  values,
  lower,
  upper,
}: EstimateLine): { mean: number; lower: number | undefined; upper: number | undefined } | undefined {
  const index = values.findLastIndex((value) => value !== null)
  const mean = values[index]
  if (typeof mean !== 'number') return undefined
  return { mean, lower: lower[index] ?? undefined, upper: upper[index] ?? undefined }
}

function addTotals(
  totals: DomainSeries['totals'],
  { failed, not_scored: notScored }: MaskSeries,
  index: number,
  { requests, tokens, scored }: { requests: number; tokens: number; scored: number },
): void {
  totals.requests += requests
  totals.tokens += tokens
  totals.scored += scored
  totals.failed += failed[index] ?? 0
  for (const reason of ['not_sampled', 'too_short', 'budget', 'evicted', 'failed'] as const)
    totals.notScored[reason] += notScored[reason][index] ?? 0
}

function emptyLine(length: number): EstimateLine {
  return { values: nulls(length), lower: nulls(length), upper: nulls(length) }
}

function nulls(length: number): (number | null)[] {
  return Array.from({ length }, () => null)
}

function zeros(length: number): number[] {
  return Array.from({ length }, () => 0)
}
