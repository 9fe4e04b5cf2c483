import { DAY_MS } from '@copal/shared/day.ts'
export { counted, formatTime } from '@copal/shared/phrases.ts'

/** Formats bytes in decimal units, as download and disk sizes are given: `12.3 MB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(value < 9.95 ? 1 : 0)} ${units[unit]}`
}

/** Formats a duration: `45 s`, `3 min 20 s`, `2 h 5 min`, `4 d`. */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`
  return `${Math.floor(hours / 24)} d`
}

/** Formats the age of an ISO time: `3 min ago`; `never` for null. */
export function formatAge(iso: string | null, nowMs: number): string {
  if (iso === null) return 'never'
  const ms = nowMs - Date.parse(iso)
  if (ms < 1000) return 'now'
  if (ms < 3_600_000) return `${formatDuration(ms < 60_000 ? ms : Math.floor(ms / 60_000) * 60_000)} ago`
  if (ms < 48 * 3_600_000) return `${Math.floor(ms / 3_600_000)} h ago`
  return `${Math.floor(ms / DAY_MS)} d ago`
}

/** Formats the time of day of an ISO time: `21:05:07 UTC`. */
export function formatTimeOfDay(iso: string): string {
  return `${iso.slice(11, 19)} UTC`
}

/** Formats a ratio as per cent: 0.5 gives `50.0 %`. */
export function formatPercent(fraction: number): string {
  return `${(fraction * 100).toFixed(1)} %`
}

/** Formats an integer: `1,234,567`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}

/** Formats a perplexity with four significant figures, the precision at which they are compared: `21.03`, `988.9`. */
export function formatPerplexity(perplexity: number): string {
  if (perplexity >= 100_000) return perplexity.toExponential(2)
  return perplexity >= 1000 ? perplexity.toFixed(0) : perplexity.toPrecision(4)
}

/** Formats the bounds of an interval of losses, nats: `0.012 to 0.034`. */
export function formatNatsInterval(lower: number, upper: number): string {
  return `${lower.toFixed(3)} to ${upper.toFixed(3)}`
}

/** Formats a mask version as `system_fingerprint` ends: `dense` for 0, else `m3`. */
export function formatMask(version: number): string {
  return version === 0 ? 'dense' : `m${version}`
}
