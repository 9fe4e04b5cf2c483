/** Levels of colour of a heat map. */

/** Colours on each side of a scale. */
const LEVELS = 6

/** A scale: `sequential` from its smallest value to its largest, `diverging` from zero to both sides alike. */
export type HeatScale = 'sequential' | 'diverging'

/** The ends of a scale. */
export interface HeatRange {
  low: number
  high: number
}

/** The ends of a scale over all values; a diverging one is symmetric around zero. */
export function heatRange(values: readonly (readonly (number | null)[])[], scale: HeatScale): HeatRange {
  const known = values.flat().filter((value): value is number => value !== null && Number.isFinite(value))
  const high = known.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY)
  const low = known.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY)
  if (known.length === 0) return { low: 0, high: 0 }
  if (scale === 'sequential') return { low, high }
  const most = Math.max(Math.abs(low), Math.abs(high))
  return { low: -most, high: most }
}

/** The class of a value's colour: `heat-1` to `heat-6` up, `cold-1` to `cold-6` down, `heat-0` for the middle or the low end. */
export function heatClass(value: number | null | undefined, range: HeatRange, scale: HeatScale): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return 'heat-none'
  if (scale === 'sequential') {
    const share = range.high > range.low ? (value - range.low) / (range.high - range.low) : 0
    return `seq-${Math.round(Math.min(1, Math.max(0, share)) * LEVELS)}`
  }
  const share = range.high > 0 ? value / range.high : 0
  const level = Math.min(LEVELS, Math.round(Math.abs(share) * LEVELS))
  return level === 0 ? 'heat-0' : `${share > 0 ? 'heat' : 'cold'}-${level}`
}
