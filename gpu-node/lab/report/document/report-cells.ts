import { formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import type { Interval } from '../../results/bootstrap.ts'
import type { Cell } from './report-document.ts'

/** What stands where nothing was measured. */
export const MISSING = '–'

/** Perplexity to four significant figures, or a dash. */
export function perplexityCell(value: number | null | undefined): string {
  return value === null || value === undefined ? MISSING : formatPerplexity(value)
}

/** A difference of perplexities: three decimals as in the paper below 10, four significant figures above. */
export function differenceCell(value: number | null | undefined): string {
  if (value === null || value === undefined) return MISSING
  const size = Math.abs(value)
  return `${value < 0 ? '−' : ''}${size < 10 ? size.toFixed(3) : formatPerplexity(size)}`
}

/** `1.64×`, or a dash. */
export function ratioCell(value: number | null): string {
  return value === null ? MISSING : `${value < 100 ? value.toFixed(2) : value.toPrecision(3)}×`
}

/** `35.2–43.1`, or a dash. */
export function intervalCell(interval: Interval | undefined): string {
  return interval ? `${formatPerplexity(interval.low)}–${formatPerplexity(interval.high)}` : MISSING
}

/** `1.24 (1.20–1.29)`, `1` of a figure by itself, or a dash. */
export function ratioIntervalCell(interval: Interval | undefined): string {
  if (!interval) return MISSING
  const { mean, low, high } = interval
  if (mean === 1 && low === 1 && high === 1) return '1'
  const digits = (value: number): string => (value < 10 ? value.toFixed(3) : formatPerplexity(value))
  return `${digits(mean)} (${digits(low)}–${digits(high)})`
}

/** `0.42 s`, `12.3 s`, `105 s`. */
export function secondsCell(value: number | null | undefined): string {
  if (value === null || value === undefined) return MISSING
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} s`
}

/** The first 16 digits of a hash; `results.json` has all. */
export function hashCell(sha256: string): Cell {
  return { text: sha256.slice(0, 16), style: 'code' }
}

export function arithmeticMean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length
}

export function geometricMean(values: readonly number[]): number | null {
  const log = arithmeticMean(values.map(Math.log))
  return log === null ? null : Math.exp(log)
}

/**
 * `rows` with the smallest figure of `column` (and its equals) made strong, where there are two to compare and none is
 * missing: the lowest of those that were measured is not the lowest.
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
