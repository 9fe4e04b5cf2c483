/** Periods of a report that charts leave out, so that the data of a service that has just started fills them. */
import type { GapsReport, SeriesReport } from '@copal/shared/wire/admin-series.ts'

/** The fewest periods that a time axis shows, such as half an hour of the last 24 or six of the last 30 days. */
const MIN_PERIODS = 6

/** Leaves out the periods before the first requests. */
export function seriesFromFirstData(report: SeriesReport): SeriesReport {
  const first = firstShown(
    report.starts,
    report.series.flatMap(({ periods }) => periods.slice(0, 1)),
  )
  return {
    ...report,
    starts: report.starts.slice(first),
    series: report.series.map((series) => ({
      ...series,
      periods: series.periods.map((period) => period - first),
    })),
  }
}

/** Leaves out the periods before the first in which a domain has a value. */
export function gapsFromFirstData(report: GapsReport): GapsReport {
  const first = firstShown(
    report.starts,
    report.domains.map(({ gap }) => gap.findIndex((nats) => nats !== null)).filter((index) => index !== -1),
  )
  return {
    ...report,
    starts: report.starts.slice(first),
    domains: report.domains.map((domain) => ({ ...domain, gap: domain.gap.slice(first) })),
  }
}

function firstShown(starts: readonly number[], known: readonly number[]): number {
  return Math.max(0, Math.min(starts.length - MIN_PERIODS, ...known))
}
