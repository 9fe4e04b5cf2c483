import { useMemo } from 'preact/hooks'
import type { SeriesReport } from '@copal/shared/wire/admin-series.ts'
import { SeriesChart } from '../../charts/series-chart.tsx'
import type { Line } from '../../charts/plot-data.ts'
import { gapsByDomain } from '../../data/domain-series.ts'
import {
  formatLossDifference,
  formatPercentTick,
  formatSignedPercent,
  perplexityChange,
} from '../../format/numbers.ts'
import { useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'

/** The domains with the most traffic have colours; the others are drawn behind them. */
const COLOURED = 8

/** The cost of pruning of each domain over time, per cent of perplexity. */
export function GapByDomain({ report }: { report: SeriesReport }) {
  const { go } = useNavigation()
  const gaps = useMemo(() => gapsByDomain(report), [report])
  const lines = useMemo<Line[]>(
    () =>
      gaps.map(({ domain, values }, index) => ({
        label: domain,
        values: values.map((nats) => (nats === null ? null : perplexityChange(nats) * 100)),
        colour: index < COLOURED ? index : ('muted' as const),
        isBackground: index >= COLOURED,
      })),
    [gaps],
  )
  if (gaps.every(({ values }) => values.every((value) => value === null)))
    return <p class="soft">Too few requests were scored in this time.</p>
  const last = gaps.slice(0, COLOURED).flatMap(({ domain, values }) => {
    const known = values.findLast((value) => value !== null)
    return typeof known === 'number' ? [`${domain} ${formatLossDifference(known)}`] : []
  })
  return (
    <SeriesChart
      title="Cost by domain"
      summary={`The last values: ${last.join(', ')}.`}
      x={report.starts}
      xEnd={(report.starts.at(-1) ?? 0) + report.width}
      lines={lines}
      marks={report.marks}
      formatY={formatSignedPercent}
      formatTick={formatPercentTick}
      height={240}
      onMark={({ update }) => {
        if (update !== null) go(paths.update(update))
      }}
    />
  )
}
