import { InvalidArgumentError } from 'commander'

/** A time back from now. */
export interface TimeSpan {
  hours: number
}

/** Which series to fetch. */
export interface SeriesOptions {
  model?: string
  domain?: string
  since?: TimeSpan
  /** Width of a period, seconds; by default the gateway's choice. */
  width?: number
}

const HOURS_OF = { m: 1 / 60, h: 1, d: 24 } as const

/** Parses a time span like `90m`, `6h` or `7d`. */
export function timeSpan(text: string): TimeSpan {
  const parts = /^([1-9]\d{0,4})([mhd])$/.exec(text)
  const unit = parts?.[2]
  if (unit === 'm' || unit === 'h' || unit === 'd') return { hours: Number(parts?.[1]) * HOURS_OF[unit] }
  throw new InvalidArgumentError('A time like 90m, 6h or 7d is expected.')
}

/** Returns when a span that ends now begins, as an ISO time. */
export function spanStart({ hours }: TimeSpan): string {
  return new Date(Date.now() - hours * 3_600_000).toISOString()
}

/** Returns the path of the series below `/admin`. */
export function seriesPath({ model, domain, since, width }: SeriesOptions): string {
  const query = new URLSearchParams()
  if (model !== undefined) query.set('model', model)
  if (domain !== undefined) query.set('domain', domain)
  if (since) query.set('from', spanStart(since))
  if (width !== undefined) query.set('width', String(width))
  return `/series${query.size > 0 ? `?${query.toString()}` : ''}`
}
