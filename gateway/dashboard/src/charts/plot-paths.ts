/** SVG paths of a plot. A value that is missing leaves a gap. */
import type { Values } from './plot-data.ts'

/** Places of the values, pixels. */
export interface Scales {
  /** By index. */
  x: (index: number) => number
  y: (value: number) => number
}

/** The line through values. */
export function linePath(values: Values, scales: Scales): string {
  return values
    .map((value, index) =>
      typeof value === 'number'
        ? (typeof values[index - 1] === 'number' ? 'L' : 'M') + place(index, value, scales)
        : '',
    )
    .join('')
}

/** The areas between two bounds. */
export function bandPath(lower: Values, upper: Values, scales: Scales): string {
  let path = ''
  let lowerEdge = ''
  for (const [index, low] of lower.entries()) {
    const high = upper[index]
    if (typeof low === 'number' && typeof high === 'number') {
      path += (lowerEdge ? 'L' : 'M') + place(index, high, scales)
      lowerEdge = `L${place(index, low, scales)}${lowerEdge}`
    } else if (lowerEdge) {
      path += `${lowerEdge}Z`
      lowerEdge = ''
    }
  }
  return path + (lowerEdge && `${lowerEdge}Z`)
}

/** Points at the given indexes: lines without length, which round caps make visible. */
export function pointPath(indexes: readonly number[], values: Values, scales: Scales): string {
  return indexes.map((index) => `M${place(index, values[index] ?? 0, scales)}h0`).join('')
}

/** Vertical lines from the lower to the upper bound at the given indexes. */
export function intervalPath(
  indexes: readonly number[],
  lower: Values,
  upper: Values,
  scales: Scales,
): string {
  return indexes
    .flatMap((index) => {
      const [low, high] = [lower[index], upper[index]]
      if (typeof low !== 'number' || typeof high !== 'number') return []
      return `M${place(index, low, scales)}V${round(scales.y(high))}`
    })
    .join('')
}

function place(index: number, value: number, { x, y }: Scales): string {
  return `${round(x(index))} ${round(y(value))}`
}

function round(pixels: number): number {
  return Math.round(pixels * 10) / 10
}
