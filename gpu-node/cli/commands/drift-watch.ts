import { seriesReport, type MaskSeries, type SeriesReport } from '@copal/shared/wire/admin-series.ts'
import {
  formatCount,
  formatMask,
  formatNatsInterval,
  formatTime,
  formatTimeOfDay,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { seriesPath, type SeriesOptions } from '../input/series-options.ts'
import { liveView } from '../output/live-view.ts'
import { sparkline } from '../output/sparkline.ts'

const INTERVAL_MS = 5_000
const HOURS = 24

/** Shows what pruning costs each domain in the last 24 hours, by hour, until the user presses Ctrl-C. */
export async function watchDrift(session: Session, options: SeriesOptions): Promise<void> {
  const path = seriesPath({ ...options, since: options.since ?? { hours: HOURS }, width: 3_600 })
  await liveView(session.terminal, INTERVAL_MS, async () => {
    const report = await session.client().admin('GET', path, seriesReport)
    return describeSeries(report, (columns, rows) => session.table(columns, rows))
  })
}

/** Renders the series of each domain and mask as a row, with its newest period and its course. */
export function describeSeries(report: SeriesReport, table: Session['table']): string {
  const at = formatTimeOfDay(new Date().toISOString())
  const head = `${report.model} at ${at}. Loss on sampled traffic, nats a token; the gap is what pruning costs.`
  if (report.series.length === 0) return `${head}\n\nNo request has been settled in this time.`
  const rows = report.series.map((series) => rowOf(series, report.starts.length))
  const marks = report.marks.slice(-5).map(({ at: markAt, text }) => `${formatTime(markAt)}  ${text}`)
  const lines = table(
    [
      { title: 'DOMAIN', value: (row) => row.domain, shrinks: true },
      { title: 'MASK', value: (row) => formatMask(row.maskVersion) },
      { title: 'REQUESTS', value: (row) => formatCount(row.requests), align: 'right' },
      { title: 'SCORED', value: (row) => formatCount(row.scored), align: 'right' },
      { title: 'DENSE', value: (row) => number(row.dense), align: 'right' },
      { title: 'PRUNED', value: (row) => number(row.pruned), align: 'right' },
      { title: 'GAP', value: (row) => number(row.gap), align: 'right' },
      { title: '95 %', value: (row) => row.interval },
      { title: 'GAP BY PERIOD', value: (row) => row.course },
    ],
    rows,
  )
  return [head, lines, ...(marks.length > 0 ? [marks.join('\n')] : [])].join('\n\n')
}

/** Returns the newest means of a series, and its gap in each period. */
function rowOf(series: MaskSeries, periods: number) {
  const { gap, dense, pruned } = series
  const last = gap.mean.findLastIndex((mean) => mean !== null)
  const [lower, upper] = [gap.lower[last] ?? null, gap.upper[last] ?? null]
  const course = Array.from(
    { length: periods },
    (_, period) => gap.mean[series.periods.indexOf(period)] ?? null,
  )
  return {
    domain: series.domain,
    maskVersion: series.mask_version,
    requests: total(series.requests),
    scored: total(series.scored_requests),
    dense: dense.mean[last] ?? null,
    pruned: pruned.mean[last] ?? null,
    gap: gap.mean[last] ?? null,
    interval: lower === null || upper === null ? '-' : formatNatsInterval(lower, upper),
    course: sparkline(course),
  }
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0)
}

function number(value: number | null): string {
  return value === null ? '-' : value.toFixed(3)
}
