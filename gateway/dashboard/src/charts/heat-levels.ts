/** Levels of colour of a heat map. */
import { extent } from 'd3-array'

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
  const [low = 0, high = 0] = extent(values.flat(), (value) => (Number.isFinite(value) ? value : null))
  if (scale === 'sequential') return { low, high }
  const most = Math.max(Math.abs(low), Math.abs(high))
  return { low: -most, high: most }
}

/** The colours that a legend shows, every second one of a diverging scale, and the values at its ends. */
export interface HeatLegend extends HeatRange {
  levels: readonly string[]
}

/** The legend of a scale. A diverging one reaches from the smallest value to the largest, with zero. */
export function heatLegend(
  values: readonly (readonly (number | null)[])[],
  range: HeatRange,
  scale: HeatScale,
): HeatLegend {
  const steps = Array.from({ length: LEVELS + 1 }, (_, step) => step)
  if (scale === 'sequential') return { ...range, levels: steps.map((step) => `seq-${step}`) }
  const ends = heatRange([...values, [0]], 'sequential')
  const levelOf = (value: number) => (range.high > 0 ? (value / range.high) * LEVELS : 0)
  const shown = [-6, -4, -2, 0, 2, 4, 6].filter(
    (level) => level > levelOf(ends.low) - 2 && level < levelOf(ends.high) + 2,
  )
  return { ...ends, levels: shown.map((level) => divergingClass(level)) }
}

/** The class of a value's colour: `heat-1` to `heat-6` up, `cold-1` to `cold-6` down, `heat-0` for the middle or the low end. */
export function heatClass(value: number | null | undefined, range: HeatRange, scale: HeatScale): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return 'heat-none'
  if (scale === 'sequential') {
    const share = range.high > range.low ? (value - range.low) / (range.high - range.low) : 0
    return `seq-${Math.round(Math.min(1, Math.max(0, share)) * LEVELS)}`
  }
  const share = range.high > 0 ? value / range.high : 0
  return divergingClass(Math.max(-LEVELS, Math.min(LEVELS, Math.round(share * LEVELS))))
}

function divergingClass(level: number): string {
  return level === 0 ? 'heat-0' : `${level > 0 ? 'heat' : 'cold'}-${Math.abs(level)}`
}
