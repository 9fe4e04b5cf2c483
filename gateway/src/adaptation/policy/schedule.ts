import { AppError } from '@copal/shared/errors.ts'
import { Cron } from 'croner'

/** Returns the first time of a cron expression after another time, in UTC; undefined if there is none. */
export function nextOccurrence(expression: string, afterMs: number): number | undefined {
  return parse(expression).nextRun(new Date(afterMs))?.getTime()
}

/**
 * Checks a cron expression.
 *
 * @throws AppError `invalid_request` that shows what is expected
 */
export function requireSchedule(expression: string, nowMs: number): void {
  const fields = expression.trim().split(/\s+/).length
  let reason = 'it has no time in the future'
  try {
    if (nextOccurrence(expression, nowMs) !== undefined) return
  } catch (error) {
    // The library names the numbers of fields that it accepts elsewhere.
    if (fields !== 5) reason = `it has ${fields === 1 ? '1 field' : `${fields} fields`} instead of five`
    else reason = error instanceof Error ? error.message : String(error)
  }
  throw new AppError(
    'invalid_request',
    `'triggers.schedule' is '${expression}', which is no schedule: ${reason.replace(/^CronPattern: /, '').replace(/\.$/, '')}. Write minute, ` +
      "hour, day of the month, month and day of the week, in UTC: '0 3 * * *' is every night at 3.",
    { param: 'triggers.schedule' },
  )
}

/** Five fields only: a sixth one would be seconds, and the triggers run once a minute. */
function parse(expression: string): Cron {
  return new Cron(expression, { timezone: 'UTC', paused: true, mode: '5-part' })
}
