import { extent } from 'd3-array'
import type { Values } from './plot-data.ts'
import type { Scales } from './plot-paths.ts'

/** The scales of a small line of so many pixels, which begins at 0. */
export function sparkScales(values: Values, width: number, height: number): Scales {
  const [low = 0, high = 0] = extent([0, ...values.filter((value) => value !== null)])
  return {
    x: (index) => (values.length > 1 ? 2 + (index * (width - 4)) / (values.length - 1) : width / 2),
    y: (value) => height - 2 - ((value - low) / (high - low || 1)) * (height - 4),
  }
}
