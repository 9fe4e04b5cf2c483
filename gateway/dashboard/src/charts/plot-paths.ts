/** SVG paths of a plot. A value that is missing leaves a gap. */
import { area, line } from 'd3-shape'
import type { Values } from './plot-data.ts'

/** Places of the values, pixels. */
export interface Scales {
  /** By index. */
  x: (index: number) => number
  y: (value: number) => number
}

/** Decides whether a path goes through the value at an index. */
type Selection = (values: Values, index: number) => boolean

/** The line through values: by default all that are known. A value between gaps is a line without length, which round caps make visible. */
export function linePath(values: Values, { x, y }: Scales, isOnPath: Selection = isKnown): string {
  const path = line<number | null>(
    (_, index) => x(index),
    (value) => y(value ?? 0),
  )
  return path.defined((_, index) => isOnPath(values, index)).digits(1)(values) ?? ''
}

/** The areas between two bounds: by default wherever both are known. Between gaps it is a vertical line. */
export function bandPath(
  lower: Values,
  upper: Values,
  { x, y }: Scales,
  isOnPath: Selection = isKnown,
): string {
  const path = area<number | null>(
    (_, index) => x(index),
    (low) => y(low ?? 0),
    (_, index) => y(upper[index] ?? 0),
  )
  return path.defined((_, index) => isOnPath(lower, index) && isKnown(upper, index)).digits(1)(lower) ?? ''
}

/** True for a value between gaps, to which no line leads. */
export function isAlone(values: Values, index: number): boolean {
  return isKnown(values, index) && !isKnown(values, index - 1) && !isKnown(values, index + 1)
}

function isKnown(values: Values, index: number): boolean {
  return typeof values[index] === 'number'
}
