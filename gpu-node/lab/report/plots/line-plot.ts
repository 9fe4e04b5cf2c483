import type { TopLevelSpec } from 'vega-lite'
import { linearOrLogScale, plotSpec, seriesEncoding, type SeriesStyle } from './plot-theme.ts'

/** One measured point of a line. */
export interface LinePoint {
  series: string
  x: number
  y: number
}

export interface LineAxis {
  /** With its unit. */
  title: string
  scale?: Record<string, unknown>
  /** Where ticks stand; without it the scale decides. */
  values?: number[]
  format?: string
  /** A Vega expression over `datum.value`. */
  labelExpr?: string
}

/**
 * Lines with a mark at every measured point.
 *
 * @param reference a level that all lines are to be held against, such as the dense model's.
 */
export function linePlot(options: {
  title: string
  points: LinePoint[]
  style: SeriesStyle
  x: LineAxis
  y: LineAxis
  reference?: { label: string; y: number }
}): TopLevelSpec {
  const { points, reference, x, y } = options
  const drawn = seriesWithPoints(options.style, points)
  const levels = [...points.map((point) => point.y), ...(reference ? [reference.y] : [])]
  const series = seriesEncoding(drawn)
  const yScale = y.scale ?? linearOrLogScale(levels)
  return plotSpec(options.title, 300 + 20 * drawn.names.length, {
    layer: [
      ...(reference ? referenceLayers(reference, yScale, y) : []),
      // A layer a line, with its style in the mark: the legend shows the marks alone, without dashes around them.
      ...drawn.names.map((name, index) => ({
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

/** The style of those series that have a point, each as it is in the other plots. */
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
