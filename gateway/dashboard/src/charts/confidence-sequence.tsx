import { useMemo } from 'preact/hooks'
import {
  formatCount,
  formatLossDifference,
  formatPercentTick,
  formatSignedPercent,
  perplexityChange,
} from '../format/numbers.ts'
import { SeriesChart } from './series-chart.tsx'

/** The evidence of a trial after some tokens: nats a token. */
export interface ConfidencePoint {
  tokens: number
  gap: number
  lower: number
  upper: number
}

interface ConfidenceSequenceProps {
  title: string
  summary: string
  /** Oldest first. */
  points: readonly ConfidencePoint[]
  /** The gap that the mask must not exceed, nats a token. */
  limit: number
}

/** The interval of a trial against its bound as tokens are scored. Without points it says that there are too few tokens. */
export function ConfidenceSequence({ title, summary, points, limit }: ConfidenceSequenceProps) {
  const x = useMemo(() => points.map(({ tokens }) => tokens), [points])
  const lines = useMemo(
    () => [
      {
        label: 'Gap to the other mask',
        values: points.map(({ gap }) => percent(gap)),
        lower: points.map(({ lower }) => percent(lower)),
        upper: points.map(({ upper }) => percent(upper)),
        colour: 'accent' as const,
      },
    ],
    [points],
  )
  const bounds = useMemo(
    () => [{ value: percent(limit), label: `bound ${formatLossDifference(limit)}` }],
    [limit],
  )
  if (points.length === 0) return <p class="soft">Not enough tokens are scored yet.</p>
  return (
    <SeriesChart
      title={title}
      summary={summary}
      x={x}
      lines={lines}
      bounds={bounds}
      formatX={formatCount}
      formatY={formatSignedPercent}
      formatTick={formatPercentTick}
      xTitle="Tokens scored"
    />
  )
}

/** A difference of losses as a change of perplexity in per cent, so that the ticks of the axis are round. */
function percent(nats: number): number {
  return perplexityChange(nats) * 100
}
