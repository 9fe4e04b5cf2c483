/** The content of a plot: lines, bounds and marks. */
import type { LineColour } from './colours.ts'

/** Values of a line at each x; null where nothing is known. */
export type Values = readonly (number | null)[]

/** One line of a chart, with the bounds of its interval if it has them. */
export interface Line {
  label: string
  values: Values
  lower?: Values
  upper?: Values
  colour: LineColour
  /** Thinner and without a name at the cursor: one of many. */
  isBackground?: boolean
}

/** A horizontal line that values are compared with. */
export interface Bound {
  value: number
  label: string
}

/** The content of a plot. */
export interface PlotContent {
  /** Unix seconds, or numbers; ascending. */
  x: readonly number[]
  /** End of the axis; default: the last x. */
  xEnd: number
  lines: readonly Line[]
  bounds: readonly Bound[]
  /** Positions of the marks on the x axis. */
  markAt: readonly number[]
}

/** The smallest and largest value of lines, bands and bounds, with some room; 0 to 1 without any. */
export function yRange(content: PlotContent, includesZero: boolean): [number, number] {
  let low = includesZero ? 0 : Number.POSITIVE_INFINITY
  let high = includesZero ? 0 : Number.NEGATIVE_INFINITY
  const take = (value: number | null) => {
    if (value === null) return
    low = Math.min(low, value)
    high = Math.max(high, value)
  }
  for (const { values, lower = [], upper = [] } of content.lines) {
    for (const column of [values, lower, upper]) column.forEach(take)
  }
  for (const { value } of content.bounds) take(value)
  if (low > high || (low === 0 && high === 0)) return [0, 1]
  const room = (high - low || Math.abs(high) || 1) * 0.06
  return [includesZero && low === 0 ? 0 : low - room, includesZero && high === 0 ? 0 : high + room]
}

/** Indexes of values between gaps, to which no line leads: they are drawn as points. */
export function lonelyIndexes(values: Values): number[] {
  const isMissing = (value: number | null | undefined) => value === null || value === undefined
  return [...values.keys()].filter(
    (index) => !isMissing(values[index]) && isMissing(values[index - 1]) && isMissing(values[index + 1]),
  )
}

/** True if no line has a value. */
export function isEmpty({ lines }: Pick<PlotContent, 'lines'>): boolean {
  return lines.every(({ values }) => values.every((value) => value === null))
}

/** The index of the x that is nearest to a value; undefined if there is none. */
export function nearestIndex(x: readonly number[], value: number): number | undefined {
  let nearest: number | undefined
  for (const [index, at] of x.entries()) {
    if (nearest === undefined || Math.abs(at - value) <= Math.abs((x[nearest] ?? 0) - value)) nearest = index
  }
  return nearest
}
