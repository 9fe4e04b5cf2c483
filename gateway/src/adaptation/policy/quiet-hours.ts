import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'

const MINUTE_MS = 60_000

/** Returns when the quiet hours end that a time lies in, such as `22:00-06:00` in UTC; the time itself if it lies in none. */
export function endOfQuiet(quietHours: string | null, atMs: number): number {
  if (quietHours === null) return atMs
  const [fromMs, toMs] = parse(quietHours)
  const midnightMs = Math.floor(atMs / DAY_MS) * DAY_MS
  const timeMs = atMs - midnightMs
  if (fromMs < toMs) return timeMs >= fromMs && timeMs < toMs ? midnightMs + toMs : atMs
  // Over midnight.
  if (timeMs >= fromMs) return midnightMs + DAY_MS + toMs
  return timeMs < toMs ? midnightMs + toMs : atMs
}

/**
 * Checks that quiet hours leave time for updates.
 *
 * @throws AppError `invalid_request`
 */
export function requireQuietHours(quietHours: string): void {
  const [fromMs, toMs] = parse(quietHours)
  if (fromMs !== toMs) return
  throw new AppError(
    'invalid_request',
    `'triggers.quiet_hours' is '${quietHours}', which begins when it ends. Write hours like '22:00-06:00'; for none set it to null, ` +
      "and to start no updates at all set 'triggers.enabled' to false.",
    { param: 'triggers.quiet_hours' },
  )
}

function parse(quietHours: string): [fromMs: number, toMs: number] {
  const [from = '', to = ''] = quietHours.split('-')
  return [timeOfDay(from), timeOfDay(to)]
}

function timeOfDay(text: string): number {
  const [hours = '0', minutes = '0'] = text.split(':')
  return (Number(hours) * 60 + Number(minutes)) * MINUTE_MS
}
