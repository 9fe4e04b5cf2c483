import type { TopLevelSpec } from 'vega-lite'
import type { Config } from 'vega-lite/types_unstable/config.js'

/** Width in CSS pixels: readable on a phone, and two side by side on a desktop. */
const PANEL_WIDTH = 460

/**
 * Eight colours that are distinguishable with the common colour-vision deficiencies, each with its own shape (Okabe and
 * Ito 2008; their black and yellow, which vanish on one of the two backgrounds, are replaced by a grey and an ochre).
 */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a8a8a', '#a58b00']
const SHAPES = [
  'circle',
  'square',
  'triangle-up',
  'diamond',
  'cross',
  'triangle-down',
  'triangle-right',
  'triangle-left',
]
const DASHES = [
  [1, 0],
  [6, 3],
  [2, 2],
]

/** Colour, shape and dash of every series, equal in all plots of a report with the same `names`. */
export interface SeriesStyle {
  names: string[]
  colours: string[]
  shapes: string[]
  dashes: number[][]
}

/** Assigns styles. From the ninth series on, colours repeat with another shape and a dashed line. */
export function styleSeries(names: readonly string[]): SeriesStyle {
  const round = (index: number): number => Math.floor(index / COLOURS.length)
  const pick = <Value>(values: readonly Value[], index: number): Value =>
    values[index % values.length] as Value
  return {
    names: [...names],
    colours: names.map((_, index) => pick(COLOURS, index)),
    shapes: names.map((_, index) => pick(SHAPES, index + round(index))),
    dashes: names.map((_, index) => pick(DASHES, round(index))),
  }
}

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'

const CONFIG: Config = {
  background: 'transparent',
  font: FONT,
  view: { stroke: null },
  axis: {
    labelColor: 'currentColor',
    titleColor: 'currentColor',
    domainColor: 'currentColor',
    tickColor: 'currentColor',
    gridColor: 'currentColor',
    gridOpacity: 0.15,
    domainOpacity: 0.5,
    tickOpacity: 0.5,
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 600,
    titlePadding: 8,
    labelLimit: 260,
    labelOverlap: true,
  },
  legend: {
    orient: 'bottom',
    direction: 'horizontal',
    labelColor: 'currentColor',
    titleColor: 'currentColor',
    labelFontSize: 12,
    labelLimit: 0,
    symbolSize: 70,
    symbolStrokeWidth: 2,
    rowPadding: 4,
    offset: 12,
  },
  title: { color: 'currentColor', fontSize: 13, fontWeight: 600, anchor: 'start', offset: 10 },
}

/** Creates a plot from its layers, with the settings that all plots share. */
export function plotSpec(title: string, height: number, body: Record<string, unknown>): TopLevelSpec {
  return {
    title,
    width: PANEL_WIDTH,
    height,
    autosize: { type: 'fit', contains: 'padding' },
    padding: 4,
    config: CONFIG,
    ...body,
  } as TopLevelSpec
}

/** Returns the scales that give a series its style, and a legend with as many columns as fit. */
export function seriesEncoding(style: SeriesStyle): Record<'color' | 'shape', Record<string, unknown>> {
  const longest = Math.max(...style.names.map((name) => name.length))
  const legend = { title: null, columns: longest > 24 ? 1 : longest > 14 ? 2 : 3 }
  const scale = (range: unknown[]): Record<string, unknown> => ({
    field: 'series',
    type: 'nominal',
    scale: { domain: style.names, range },
    legend,
  })
  return { color: scale(style.colours), shape: scale(style.shapes) }
}

/** Returns the scale of an axis of perplexities or ratios, logarithmic from one decade on. */
export function linearOrLogScale(values: readonly number[]): Record<string, unknown> {
  const wide = Math.max(...values) / Math.min(...values) >= 10
  return wide ? { type: 'log', nice: false, padding: 8 } : { type: 'linear', zero: false, nice: true }
}
