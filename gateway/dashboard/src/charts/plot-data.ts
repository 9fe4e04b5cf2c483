/** The content of a plot: lines, bounds and marks. */
import { extent } from 'd3-array'
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
export function yRange({ lines, bounds }: PlotContent, includesZero: boolean): [number, number] {
  const columns = lines.flatMap(({ values, lower = [], upper = [] }) => [values, lower, upper])
  const ends = columns.flatMap((column) => extent(column, (value) => value))
  const compared = [...bounds.map(({ value }) => value), ...(includesZero ? [0] : [])]
  const [low = 0, high = 0] = extent([...ends, ...compared], (value) => value)
  if (low === 0 && high === 0) return [0, 1]
  const room = (high - low || Math.abs(high)) * 0.06
  return [includesZero && low === 0 ? 0 : low - room, includesZero && high === 0 ? 0 : high + room]
}

/** True if no line has a value. */
export function isEmpty({ lines }: Pick<PlotContent, 'lines'>): boolean {
  return lines.every(({ values }) => values.every((value) => value === null))
}
