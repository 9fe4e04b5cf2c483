import { extent } from 'd3-array'
import { line } from 'd3-shape'

/** The path of a small line from 0, in SVG; a missing value is a gap, and a value between gaps a dot. */
export function sparkPath(values: readonly (number | null)[], width: number, height: number): string {
  const [low = 0, high = 0] = extent([0, ...values.filter((value) => value !== null)])
  const path = line<number | null>(
    (_, index) => (values.length > 1 ? 1 + (index * (width - 2)) / (values.length - 1) : width / 2),
    (value) => height - 1 - (((value ?? 0) - low) / (high - low || 1)) * (height - 2),
  )
  return path.defined((value) => value !== null).digits(1)(values) ?? ''
}
