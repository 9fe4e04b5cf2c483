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

/** Creates a plot of gaps over time, in UTC: a line with a band for each domain and mask, and marks. */
export function gapPlot(title: string, points: readonly GapPoint[], marks: readonly GapMark[]): TopLevelSpec {
  const style = styleSeries([...new Set(points.map(({ line }) => line))])
  const { color, shape } = seriesEncoding(style)
  const time = (field: string) => ({
    field,
    type: 'temporal',
    scale: { type: 'utc' },
    axis: { title: 'time, UTC', grid: false, tickCount: 6, format: '%-d %b %H:%M' },
  })
  const gap = (field: string) => ({
    field,
    type: 'quantitative',
    scale: { zero: true, nice: true },
    axis: { title: 'gap, nats a token', tickCount: 6, grid: true },
  })
  const values = points.map(({ line, ...point }) => ({ ...point, series: line }))
  return plotSpec(title, 320 + 20 * style.names.length, {
    layer: [
      {
        data: { values: [...marks] },
        mark: { type: 'rule', strokeDash: [4, 4], color: 'currentColor', opacity: 0.5 },
        encoding: { x: time('atMs') },
      },
      {
        data: { values: [...marks] },
        mark: {
          type: 'text',
          align: 'right',
          angle: 270,
          dy: -6,
          fontSize: 11,
          color: 'currentColor',
          opacity: 0.7,
        },
        encoding: { x: time('atMs'), y: { value: 4 }, text: { field: 'label' } },
      },
      {
        data: { values },
        mark: { type: 'area', opacity: 0.18 },
        encoding: {
          x: time('atMs'),
          y: gap('lower'),
          y2: { field: 'upper' },
          color,
        },
      },
      {
        data: { values },
        mark: { type: 'line', strokeWidth: 1.5 },
        encoding: { x: time('atMs'), y: gap('mean'), color },
      },
      {
        data: { values },
        mark: { type: 'point', filled: true, size: 22, opacity: 1 },
        encoding: { x: time('atMs'), y: gap('mean'), color, shape },
      },
    ],
  })
}
