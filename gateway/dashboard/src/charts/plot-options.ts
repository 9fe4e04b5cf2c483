/** Options of uPlot for lines with bands, bounds and marks. */
import type uPlot from 'uplot'
import { colourVariable, dashesOf } from './colours.ts'
import { isEmpty, lonelyIndexes, yRange, type PlotContent } from './plot-data.ts'
import { timeLabels } from './time-axis.ts'

/** Settings of a plot; a change makes it anew. */
export interface PlotShape {
  height: number
  isTime: boolean
  /** Name of the x axis, where it is no time. */
  xTitle: string
  includesZero: boolean
  formatX: (value: number) => string
  formatTick: (value: number) => string
  syncKey: string | undefined
}

/** Pixels left of the plot, where the labels of the y axis stand. */
const AXIS_WIDTH = 64
/** Pixels right of the plot. */
const END_PADDING = 20

/**
 * Options of a plot.
 *
 * @param content read anew at each draw
 * @param colour resolves the CSS variable of a colour
 */
export function plotOptions(
  shape: PlotShape,
  content: () => PlotContent,
  colour: (variable: string, alpha?: number) => string,
  width: number,
  onCursor: (index: number | undefined) => void,
): uPlot.Options {
  const { height, isTime, xTitle, includesZero, formatX, formatTick, syncKey } = shape
  const { lines } = content()
  const series: uPlot.Series[] = [{}]
  const bands: uPlot.Band[] = []
  for (const [index, { label, colour: name, lower, upper, isBackground = false }] of [
    ...lines.entries(),
  ].toReversed()) {
    const stroke = colour(colourVariable(name), isBackground ? 0.5 : 1)
    const dash = dashesOf(name)
    series.push({
      label,
      stroke,
      width: isBackground ? 1 : 1.75,
      ...(dash ? { dash } : {}),
      spanGaps: false,
      points: {
        show: true,
        size: 5,
        width: 0,
        fill: stroke,
        filter: () => lonelyIndexes(content().lines[index]?.values ?? []),
      },
    })
    if (!lower || !upper) continue
    const at = series.length
    series.push({ label: `${label}, upper bound`, points: { show: false } })
    series.push({ label: `${label}, lower bound`, points: { show: false } })
    bands.push({ series: [at, at + 1], fill: colour(colourVariable(name), 0.16) })
  }
  const axis = {
    stroke: colour('--muted'),
    grid: { stroke: colour('--rule'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui, sans-serif',
  } satisfies uPlot.Axis
  return {
    width,
    height,
    series,
    bands,
    legend: { show: false },
    padding: [8, END_PADDING, 0, 0],
    scales: {
      x: { time: isTime, range: () => [content().x[0] ?? 0, content().xEnd] },
      y: { range: () => yRange(content(), includesZero) },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 28,
        ...(isTime ? {} : { label: xTitle, labelSize: 18, labelFont: axis.font }),
        space: 72,
        values: (_plot, ticks, _index, _space, step) =>
          isTime ? timeLabels(ticks, step) : ticks.map(formatX),
      },
      {
        ...axis,
        size: AXIS_WIDTH,
        space: 36,
        values: (_plot, ticks) => (isEmpty(content()) ? ticks.map(() => '') : ticks.map(formatTick)),
      },
    ],
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { size: 6 },
      ...(syncKey === undefined ? {} : { sync: { key: syncKey } }),
    },
    hooks: {
      setCursor: [({ cursor }) => onCursor(cursor.idx ?? undefined)],
      draw: [
        (plot) => {
          drawLonelyIntervals(plot, content(), colour)
          drawOver(plot, content(), colour)
        },
      ],
    },
  }
}

/** Draws the intervals of points to which no band leads. */
function drawLonelyIntervals(
  plot: uPlot,
  { x, lines }: PlotContent,
  colour: (variable: string, alpha?: number) => string,
): void {
  const { ctx } = plot
  ctx.save()
  ctx.lineWidth = 5 * devicePixelRatio
  for (const { values, lower, upper, colour: name } of lines) {
    if (!lower || !upper) continue
    ctx.strokeStyle = colour(colourVariable(name), 0.16)
    for (const index of lonelyIndexes(values)) {
      const [at, low, high] = [x[index], lower[index], upper[index]]
      if (typeof at !== 'number' || typeof low !== 'number' || typeof high !== 'number') continue
      const left = plot.valToPos(at, 'x', true)
      ctx.beginPath()
      ctx.moveTo(left, plot.valToPos(low, 'y', true))
      ctx.lineTo(left, plot.valToPos(high, 'y', true))
      ctx.stroke()
    }
  }
  ctx.restore()
}

/** Draws bounds and marks over the lines. */
function drawOver(
  plot: uPlot,
  { bounds, markAt }: PlotContent,
  colour: (variable: string, alpha?: number) => string,
): void {
  const { ctx, bbox } = plot
  const pixels = devicePixelRatio
  ctx.save()
  ctx.lineWidth = pixels
  ctx.font = `${12 * pixels}px system-ui, sans-serif`
  for (const { value, label } of bounds) {
    const y = Math.round(plot.valToPos(value, 'y', true))
    ctx.strokeStyle = colour('--harm')
    ctx.fillStyle = colour('--harm')
    ctx.setLineDash([6 * pixels, 4 * pixels])
    ctx.beginPath()
    ctx.moveTo(bbox.left, y)
    ctx.lineTo(bbox.left + bbox.width, y)
    ctx.stroke()
    ctx.textAlign = 'right'
    ctx.textBaseline = y - bbox.top > 20 * pixels ? 'bottom' : 'top'
    ctx.fillText(label, bbox.left + bbox.width - 4 * pixels, y)
  }
  ctx.setLineDash([2 * pixels, 3 * pixels])
  ctx.strokeStyle = colour('--muted')
  for (const at of markAt) {
    const x = Math.round(plot.valToPos(at, 'x', true))
    if (x < bbox.left || x > bbox.left + bbox.width) continue
    ctx.beginPath()
    ctx.moveTo(x, bbox.top)
    ctx.lineTo(x, bbox.top + bbox.height)
    ctx.stroke()
  }
  ctx.restore()
}
