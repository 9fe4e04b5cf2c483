import type { TopLevelSpec } from 'vega-lite'
import { linearOrLogScale, plotSpec, seriesEncoding, styleSeries } from './plot-theme.ts'

/** A value of one method on one domain. */
export interface Dot {
  row: string
  series: string
  x: number
}

/**
 * Creates a dot plot, with one line per row and one mark per series, to compare a few values of many methods at a
 * glance.
 */
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
    // Hollow, so that overlapping marks are all visible.
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

/**
 * Splits a name into two lines, `continual-wanda` and `+swaps+reconstruct`, so that it takes a third of the panel and
 * not a half.
 */
function onTwoLines(name: string): string {
  const refinement = name.indexOf('+')
  const split = refinement === -1 ? name.indexOf(' per ') : refinement
  return split === -1 ? name : `${name.slice(0, split)}\n${name.slice(split).trim()}`
}
