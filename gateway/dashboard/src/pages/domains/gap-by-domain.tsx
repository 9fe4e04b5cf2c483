import { useMemo } from 'preact/hooks'
import type { SeriesReport } from '@copal/shared/wire/admin-series.ts'
import { SeriesChart } from '../../charts/series-chart.tsx'
import type { Line } from '../../charts/plot-options.ts'
import { domainsByTokens, joinMasks, lastKnown, mapLine } from '../../data/domain-series.ts'
import { formatLossDifference, formatSignedPercent, perplexityChange } from '../../format/numbers.ts'
import { useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'

/** The domains with the most traffic have colours; the others are drawn behind them. */
const COLOURED = 8

/** What pruning costs each domain over time, in per cent of perplexity. */
export function GapByDomain({ report }: { report: SeriesReport }) {
  const { go } = useNavigation()
  const names = useMemo(() => domainsByTokens(report), [report])
  const joined = useMemo(() => names.map((name) => joinMasks(report, name)), [report, names])
  const lines = useMemo<Line[]>(
    () =>
      joined.map(({ domain, gap }, index) => ({
        label: domain,
        values: mapLine(gap, (nats) => perplexityChange(nats) * 100).values,
        colour: index < COLOURED ? index : ('muted' as const),
        isBackground: index >= COLOURED,
      })),
    [joined],
  )
  if (joined.every(({ gap }) => gap.values.every((value) => value === null)))
    return <p class="soft">Too few requests were scored in this time.</p>
  const last = joined.slice(0, COLOURED).flatMap(({ domain, gap }) => {
    const known = lastKnown(gap)
    return known ? [`${domain} ${formatLossDifference(known.mean)}`] : []
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
      height={240}
      onMark={({ update }) => {
        if (update !== null) go(paths.update(update))
      }}
    />
  )
}
