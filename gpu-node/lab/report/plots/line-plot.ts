import type { TopLevelSpec } from 'vega-lite'
import { linearOrLogScale, plotSpec, seriesEncoding, type SeriesStyle } from './plot-theme.ts'

/** One measured point of a line. */
export interface LinePoint {
  series: string
  x: number
  y: number
}

/** An axis of a line plot. */
export interface LineAxis {
  /** Title with the unit. */
  title: string
  scale?: Record<string, unknown>
  /** Positions of the ticks; by default the scale decides. */
  values?: number[]
  format?: string
  /** A Vega expression over `datum.value` for tick labels. */
  labelExpr?: string
}

/**
 * Creates a line plot with a mark at every measured point.
 *
 * @param reference a level to compare all lines with, such as that of the dense model
 * @param hasLines whether the points of a series are joined; true by default
 */
export function linePlot(options: {
  title: string
  points: LinePoint[]
  style: SeriesStyle
  x: LineAxis
  y: LineAxis
  reference?: { label: string; y: number }
  hasLines?: boolean
}): TopLevelSpec {
  const { points, reference, x, y, hasLines = true } = options
  const drawn = seriesWithPoints(options.style, points)
  const levels = [...points.map((point) => point.y), ...(reference ? [reference.y] : [])]
  const series = seriesEncoding(drawn)
  const yScale = y.scale ?? linearOrLogScale(levels)
  return plotSpec(options.title, 300 + 20 * drawn.names.length, {
    layer: [
      ...(reference ? referenceLayers(reference, yScale, y) : []),
      // One layer per line with its style in the mark, so that the legend shows only the marks, without dashes.
      ...(hasLines ? drawn.names : []).map((name, index) => ({
        data: { values: points.filter((point) => point.series === name) },
        mark: {
          type: 'line',
          strokeWidth: 2,
          opacity: 0.85,
          color: drawn.colours[index],
          strokeDash: drawn.dashes[index],
        },
        encoding: { x: axisEncoding('x', x), y: axisEncoding('y', { ...y, scale: yScale }) },
      })),
      {
        data: { values: points },
        mark: { type: 'point', filled: true, size: 55, opacity: 1 },
        encoding: { x: axisEncoding('x', x), y: axisEncoding('y', { ...y, scale: yScale }), ...series },
      },
    ],
  })
}

function axisEncoding(field: 'x' | 'y', axis: LineAxis): Record<string, unknown> {
  const { title, scale, values, format, labelExpr } = axis
  return {
    field,
    type: 'quantitative',
    scale: scale ?? { zero: false, nice: false, padding: 12 },
    axis: {
      title: scale?.['type'] === 'log' ? `${title}, log scale` : title,
      ...(values ? { values } : { tickCount: 6 }),
      ...(format ? { format } : {}),
      ...(labelExpr ? { labelExpr } : {}),
      grid: field === 'y',
    },
  }
}

function referenceLayers(
  reference: { label: string; y: number },
  scale: Record<string, unknown>,
  axis: LineAxis,
): Record<string, unknown>[] {
  const data = { values: [reference] }
  const y = axisEncoding('y', { ...axis, scale })
  return [
    {
      data,
      mark: { type: 'rule', strokeDash: [4, 4], color: 'currentColor', opacity: 0.6 },
      encoding: { y },
    },
    {
      data,
      mark: { type: 'text', align: 'right', baseline: 'bottom', dy: -3, fontSize: 12, color: 'currentColor' },
      encoding: { y, x: { value: 'width' }, text: { field: 'label' } },
    },
  ]
}

/** Returns the style of the series that have a point, the same as in the other plots. */
function seriesWithPoints(style: SeriesStyle, points: readonly LinePoint[]): SeriesStyle {
  const shown = style.names.flatMap((name, index) =>
    points.some(({ series }) => series === name) ? [index] : [],
  )
  const take = <Value>(values: readonly Value[]): Value[] => shown.map((index) => values[index] as Value)
  return {
    names: take(style.names),
    colours: take(style.colours),
    shapes: take(style.shapes),
    dashes: take(style.dashes),
  }
}
