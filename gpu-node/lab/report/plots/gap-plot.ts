import type { TopLevelSpec } from 'vega-lite'
import { plotSpec, seriesEncoding, styleSeries } from './plot-theme.ts'

/** The mean gap of a period with its 95 % interval, nats a token. */
export interface GapPoint {
  /** The line that it belongs to. */
  line: string
  /** Start of the period, Unix milliseconds. */
  atMs: number
  mean: number
  lower: number
  upper: number
}

/** Something that happened, drawn as a line through the time axis. */
export interface GapMark {
  atMs: number
  label: string
}

/** Share of the time axis within which labels would stand over each other, or over those of the y axis. */
const NEAR_SHARE = 1 / 20

/**
 * Returns the labels of marks: one for those that are near each other, and after the last of their lines where it would stand over the y axis.
 *
 * @param times all times of the plot, Unix milliseconds
 */
export function labelsOf(
  marks: readonly GapMark[],
  times: readonly number[],
): (GapMark & { side: 'before' | 'after' })[] {
  const from = Math.min(...times)
  const nearMs = (Math.max(...times) - from) * NEAR_SHARE
  const labels: (GapMark & { lastMs: number })[] = []
  for (const { atMs, label } of marks.toSorted((a, b) => a.atMs - b.atMs)) {
    const last = labels.at(-1)
    if (last && atMs - last.atMs < nearMs) {
      last.label += `, ${label}`
      last.lastMs = atMs
    } else labels.push({ atMs, lastMs: atMs, label })
  }
  return labels.map(({ atMs, lastMs, label }) =>
    atMs - from < nearMs ? { atMs: lastMs, label, side: 'after' } : { atMs, label, side: 'before' },
  )
}

/** Creates a plot of gaps over time, in UTC: a line with a band for each domain and mask, and marks. */
export function gapPlot(title: string, points: readonly GapPoint[], marks: readonly GapMark[]): TopLevelSpec {
  const style = styleSeries([...new Set(points.map(({ line }) => line))])
  const { color, shape } = seriesEncoding(style)
  const time = {
    field: 'atMs',
    type: 'temporal',
    scale: { type: 'utc' },
    axis: { title: 'time, UTC', grid: false, tickCount: 6, format: '%-d %b %H:%M' },
  }
  const gap = (field: string) => ({
    field,
    type: 'quantitative',
    scale: { zero: true, nice: true },
    axis: { title: 'gap, nats a token', tickCount: 6, grid: true },
  })
  const labels = labelsOf(
    marks,
    [...points, ...marks].map(({ atMs }) => atMs),
  )
  const values = points.map(({ line, ...point }) => ({ ...point, series: line }))
  return plotSpec(title, 320 + 20 * style.names.length, {
    layer: [
      {
        data: { values: [...marks] },
        mark: { type: 'rule', strokeDash: [4, 4], color: 'currentColor', opacity: 0.5 },
        encoding: { x: time },
      },
      ...(['before', 'after'] as const).map((side) => ({
        data: { values: labels.filter((label) => label.side === side) },
        mark: {
          type: 'text' as const,
          align: 'right' as const,
          angle: 270,
          dy: side === 'before' ? -6 : 12,
          fontSize: 11,
          color: 'currentColor',
          opacity: 0.7,
        },
        encoding: { x: time, y: { value: 4 }, text: { field: 'label' } },
      })),
      {
        data: { values },
        mark: { type: 'area', opacity: 0.18 },
        encoding: {
          x: time,
          y: gap('lower'),
          y2: { field: 'upper' },
          color,
        },
      },
      {
        data: { values },
        mark: { type: 'line', strokeWidth: 1.5 },
        encoding: { x: time, y: gap('mean'), color },
      },
      {
        data: { values },
        mark: { type: 'point', filled: true, size: 22, opacity: 1 },
        encoding: { x: time, y: gap('mean'), color, shape },
      },
    ],
  })
}
