import { useMemo } from 'preact/hooks'
import type { GapsReport } from '@copal/shared/wire/admin-series.ts'
import { SeriesChart } from '../../charts/series-chart.tsx'
import type { Line } from '../../charts/plot-data.ts'
import { gapsFromFirstData } from '../../data/first-data.ts'
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
export function GapByDomain({ report: whole }: { report: GapsReport }) {
  const { go } = useNavigation()
  const report = useMemo(() => gapsFromFirstData(whole), [whole])
  const { domains } = report
  const lines = useMemo<Line[]>(
    () =>
      domains.map(({ domain, gap }, index) => ({
        label: domain,
        values: gap.map((nats) => (nats === null ? null : perplexityChange(nats) * 100)),
        colour: index < COLOURED ? index : ('muted' as const),
        isBackground: index >= COLOURED,
      })),
    [domains],
  )
  if (domains.every(({ gap }) => gap.every((value) => value === null)))
    return (
      <p class="soft">
        {domains.length === 0
          ? 'No requests in this time.'
          : 'Too few requests were scored in this time. The page of a domain says why.'}
      </p>
    )
  const last = domains.slice(0, COLOURED).flatMap(({ domain, gap }) => {
    const known = gap.findLast((value) => value !== null)
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
