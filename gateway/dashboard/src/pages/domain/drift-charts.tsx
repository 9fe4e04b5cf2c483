import { useMemo, useState } from 'preact/hooks'
import type { SeriesMark, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { Line } from '../../charts/plot-data.ts'
import { SeriesChart } from '../../charts/series-chart.tsx'
import { joinMasks, lastKnown, mapLine, type DomainSeries } from '../../data/domain-series.ts'
import { seriesFromFirstData } from '../../data/first-data.ts'
import {
  formatCount,
  plural,
  formatCountTick,
  formatDuration,
  formatLossDifference,
  formatNumber,
  formatPercentTick,
  formatSignedPercent,
  perplexityChange,
} from '../../format/numbers.ts'
import { useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'
import { scoredNote, whyNothingScored } from './scored-note.ts'

/** Drift of the traffic (dense) and cost of pruning (gap) over time, with the decisions on the shared axis. */
export function DriftCharts({ report: whole, domain }: { report: SeriesReport; domain: string }) {
  const { go } = useNavigation()
  const sharedCursor = useState<number>()
  const report = useMemo(() => seriesFromFirstData(whole), [whole])
  const joined = useMemo(() => joinMasks(report, domain), [report, domain])
  const lines = useMemo(() => linesOf(joined, report.width), [joined, report.width])
  const marks = useMemo(
    () => report.marks.filter((mark) => mark.domain === null || mark.domain === domain),
    [report, domain],
  )
  const shared = {
    x: report.starts,
    xEnd: (report.starts.at(-1) ?? 0) + report.width,
    sharedCursor,
    marks,
    onMark: ({ update }: SeriesMark) => {
      if (update !== null) go(paths.update(update))
    },
  }
  const gap = lastKnown(joined.gap)
  const nothing = whyNothingScored(joined)
  if (joined.totals.requests === 0) return <p class="soft">{nothing}</p>
  return (
    <>
      <SeriesChart
        {...shared}
        title="What pruning costs"
        summary={
          gap
            ? `Perplexity over dense, last ${formatLossDifference(gap.mean)}.`
            : 'Too few requests were scored in this time.'
        }
        lines={lines.gap}
        empty={nothing}
        formatY={formatSignedPercent}
        formatTick={formatPercentTick}
        height={200}
      />
      <SeriesChart
        {...shared}
        hasMarkRow={false}
        title="Perplexity of the traffic"
        summary="Dense shows whether the traffic changes; the distance between the lines is the cost of pruning."
        lines={lines.perplexity}
        empty={nothing}
        formatY={formatNumber}
        includesZero={false}
        height={200}
      />
      <SeriesChart
        {...shared}
        hasMarkRow={false}
        title="Tokens"
        summary={`${plural(joined.totals.tokens, 'token')} of ${plural(joined.totals.requests, 'request')} in this time.`}
        lines={lines.tokens}
        formatY={formatCount}
        formatTick={formatCountTick}
        height={112}
      />
      <p class="soft chart-note">{scoredNote(joined)}</p>
    </>
  )
}

function linesOf(
  { dense, pruned, gap, tokens }: DomainSeries,
  widthS: number,
): {
  gap: Line[]
  perplexity: Line[]
  tokens: Line[]
} {
  return {
    gap: [
      {
        label: 'cost, 95 % interval',
        colour: 'accent',
        ...mapLine(gap, (nats) => perplexityChange(nats) * 100),
      },
    ],
    perplexity: [
      { label: 'pruned', colour: 1, ...mapLine(pruned, Math.exp) },
      { label: 'dense', colour: 0, ...mapLine(dense, Math.exp) },
    ],
    tokens: [{ label: `in each ${formatDuration(widthS)}`, colour: 'ink', values: tokens }],
  }
}
