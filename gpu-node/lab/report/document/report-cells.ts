import { formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import type { Interval } from '../../results/bootstrap.ts'
import type { Cell } from './report-document.ts'

/** The cell where nothing was measured. */
export const MISSING = '–'

/** Formats a perplexity with four significant figures, or a dash. */
export function perplexityCell(value: number | null | undefined): string {
  return value === null || value === undefined ? MISSING : formatPerplexity(value)
}

/**
 * Formats a difference of perplexities: three decimals below 10, as in the paper, and four significant figures above.
 */
export function differenceCell(value: number | null | undefined): string {
  if (value === null || value === undefined) return MISSING
  const size = Math.abs(value)
  return `${value < 0 ? '−' : ''}${size < 10 ? size.toFixed(3) : formatPerplexity(size)}`
}

/** Formats a ratio as `1.64×`, or a dash. */
export function ratioCell(value: number | null): string {
  return value === null ? MISSING : `${value < 100 ? value.toFixed(2) : value.toPrecision(3)}×`
}

/** Formats an interval as `35.2–43.1`, or a dash. */
export function intervalCell(interval: Interval | undefined): string {
  return interval ? `${formatPerplexity(interval.low)}–${formatPerplexity(interval.high)}` : MISSING
}

/** Formats a ratio with its interval as `1.24 (1.20–1.29)`, `1` for a value relative to itself, or a dash. */
export function ratioIntervalCell(interval: Interval | undefined): string {
  if (!interval) return MISSING
  const { mean, low, high } = interval
  if (mean === 1 && low === 1 && high === 1) return '1'
  const digits = (value: number): string => (value < 10 ? value.toFixed(3) : formatPerplexity(value))
  return `${digits(mean)} (${digits(low)}–${digits(high)})`
}

/** Formats seconds as `0.42 s`, `12.3 s`, `105 s`. */
export function secondsCell(value: number | null | undefined): string {
  if (value === null || value === undefined) return MISSING
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} s`
}

/** Formats the first 16 digits of a hash; `results.json` has all. */
export function hashCell(sha256: string): Cell {
  return { text: sha256.slice(0, 16), style: 'code' }
}

/** Returns the arithmetic mean; null of no values. */
export function arithmeticMean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Returns the geometric mean; null of no values. */
export function geometricMean(values: readonly number[]): number | null {
  const log = arithmeticMean(values.map(Math.log))
  return log === null ? null : Math.exp(log)
}

/**
 * Returns `rows` with the smallest value of `column` (and equal ones) made strong, if there are at least two values and
 * none is missing: otherwise it may not be the lowest.
 */
export function emphasiseLowest(
  rows: readonly Cell[][],
  column: number,
  values: readonly (number | null | undefined)[],
): Cell[][] {
  const figures = values.filter((value) => value !== null && value !== undefined)
  if (figures.length < Math.max(2, values.length)) return [...rows]
  const lowest = Math.min(...figures)
  return rows.map((cells, row) =>
    cells.map((cell, index) =>
      index === column && values[row] === lowest && typeof cell === 'string'
        ? { text: cell, style: 'strong' }
        : cell,
    ),
  )
}
