/** Times as the dashboard shows them: local, relative within an hour, in UTC on hover. */
import { formatDuration } from './numbers.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const

/** A time: milliseconds since 1970, or ISO 8601. */
export type Instant = number | string

/** Milliseconds since 1970. */
export function toMs(at: Instant): number {
  return typeof at === 'number' ? at : Date.parse(at)
}

/** Formats a time: `just now`, `12 min ago`, `in 5 min`, `03:12`, `27 Nov, 03:12`, `27 Nov 2025, 03:12`. */
export function formatTime(at: Instant, nowMs: number): string {
  const ageMs = nowMs - toMs(at)
  if (Math.abs(ageMs) < HOUR_MS) return formatRelative(at, nowMs)
  return formatClock(at, nowMs)
}

/** Formats a time by the clock: `03:12` today, else with its date. */
export function formatClock(at: Instant, nowMs: number): string {
  const date = new Date(toMs(at))
  if (Number.isNaN(date.getTime())) return ''
  const now = new Date(nowMs)
  const clock = clockOf(date)
  if (date.toDateString() === now.toDateString()) return clock
  const day = dayOf(date)
  return date.getFullYear() === now.getFullYear()
    ? `${day}, ${clock}`
    : `${day} ${date.getFullYear()}, ${clock}`
}

/** Formats a time relative to now: `12 min ago`, `in 2 h 10 min`. */
export function formatRelative(at: Instant, nowMs: number): string {
  const ageMs = nowMs - toMs(at)
  if (Math.abs(ageMs) < 5_000) return 'just now'
  const seconds = Math.abs(ageMs) / 1000
  const span = formatDuration(seconds < 60 ? seconds : Math.round(seconds / 60) * 60)
  return ageMs > 0 ? `${span} ago` : `in ${span}`
}

/** Formats a time in UTC to the second: `2026-11-27 03:12:45 UTC`. */
export function formatUtc(at: Instant): string {
  const date = new Date(toMs(at))
  return Number.isNaN(date.getTime()) ? '' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/**
 * The time that is left of something that runs, seconds, if it goes on as fast as so far.
 *
 * @param progress 0 to 1
 * @returns `undefined` while less than 5 % is done: it began with loading weights or texts, which says too little of the rest
 */
export function secondsLeft(startedAt: Instant, progress: number, nowMs: number): number | undefined {
  if (progress < 0.05 || progress >= 1) return undefined
  const elapsedMs = nowMs - toMs(startedAt)
  return elapsedMs <= 0 ? undefined : (elapsedMs * (1 - progress)) / progress / 1000
}

/** Words for an estimated time that is left, seconds: `about 12 min left`; empty where it is not known. */
export function timeLeft(seconds: number | undefined): string {
  return seconds === undefined ? '' : `about ${formatDuration(roundEstimate(seconds))} left`
}

/** Matches the estimate of a job, at the end of its message, of the time left of what the message is about. */
const TIME_LEFT = /, about (\d+) s left$/

/** The message of a job without its own estimate of the time left: the page shows one estimate, that of the bar beside it. */
export function withoutTimeLeft(message: string): string {
  return message.replace(TIME_LEFT, '')
}

/** The message of a job with its own estimate of the time left in the words of {@link timeLeft}. */
export function withTimeLeft(message: string): string {
  return message.replace(TIME_LEFT, (_, seconds: string) => `, ${timeLeft(Number(seconds))}`)
}

/** Rounds a span that is estimated: to 10 s, a minute, 5 minutes or an hour. */
export function roundEstimate(seconds: number): number {
  const step = seconds < 90 ? 10 : seconds < 20 * 60 ? 60 : seconds < 3 * 3_600 ? 300 : 3_600
  return Math.max(step, Math.round(seconds / step) * step)
}

/** Delay until a relative time must be rendered again, milliseconds. */
export function refreshAfterMs(at: Instant, nowMs: number): number {
  const ageMs = Math.abs(nowMs - toMs(at))
  return ageMs < MINUTE_MS ? 1_000 : ageMs < HOUR_MS ? 15_000 : MINUTE_MS
}

/** The local day of a date: `27 Nov`. */
export function dayOf(date: Date): string {
  return `${date.getDate()} ${MONTHS[date.getMonth()]}`
}

/** The local hour and minute of a date: `03:12`. */
export function clockOf(date: Date): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}`
}

function two(number: number): string {
  return String(number).padStart(2, '0')
}

/** Formats the beginning of something that lasts: `for 12 min` within an hour, then `since 03:12`. */
export function formatSince(at: Instant, nowMs: number): string {
  const ageMs = nowMs - toMs(at)
  if (ageMs >= 0 && ageMs < HOUR_MS)
    return `for ${formatDuration(Math.max(60, Math.floor(ageMs / MINUTE_MS) * 60))}`
  return `since ${formatClock(at, nowMs)}`
}
