import type { TopLevelSpec } from 'vega-lite'
import { linearOrLogScale, plotSpec, seriesEncoding, styleSeries } from './plot-theme.ts'

/** A figure of one method on one domain. */
export interface Dot {
  row: string
  series: string
  x: number
}

/** One line a row, one mark a series: where a few figures of many methods are compared at a glance. */
export function dotPlot(options: {
  title: string
  dots: Dot[]
  series: string[]
  xTitle: string
}): TopLevelSpec {
  const rows = [...new Set(options.dots.map(({ row }) => row))]
  const scale = linearOrLogScale(options.dots.map(({ x }) => x))
  const dots = options.dots.map((dot) => ({ ...dot, row: onTwoLines(dot.row) }))
  return plotSpec(options.title, 120 + 34 * rows.length + 12 * options.series.length, {
    data: { values: dots },
    // Hollow, so that marks that lie on each other are all seen.
    mark: { type: 'point', filled: false, size: 70, strokeWidth: 2 },
    encoding: {
      x: {
        field: 'x',
        type: 'quantitative',
        scale,
        axis: {
          title: scale['type'] === 'log' ? `${options.xTitle}, log scale` : options.xTitle,
          tickCount: 5,
          format: ',.4~r',
        },
      },
      y: {
        field: 'row',
        type: 'nominal',
        scale: { domain: rows.map(onTwoLines) },
        axis: { title: null, labelExpr: "split(datum.label, '\\n')", grid: true, labelOverlap: false },
      },
      ...seriesEncoding(styleSeries(options.series)),
    },
  })
}

/** `continual-wanda` over `+swaps+reconstruct`: a name takes a third of the panel, not a half. */
function onTwoLines(name: string): string {
  const refinement = name.indexOf('+')
  const split = refinement === -1 ? name.indexOf(' per ') : refinement
  return split === -1 ? name : `${name.slice(0, split)}\n${name.slice(split).trim()}`
}
