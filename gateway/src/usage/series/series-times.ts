import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import { SERIES_WIDTHS, type SeriesQuery } from '@copal/shared/wire/admin-series.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { PeriodRange } from '../../storage/db/queries/period-queries.ts'

/** Periods of a series whose width the gateway chooses. */
const CHOSEN_PERIODS = 300
/** Periods of one whose width the client chooses, or that is longer than 300 days. */
const MAX_PERIODS = 1_500

/**
 * Chooses the periods of a series: those that the query names, or of the last 24 hours; by default of the narrowest width that
 * gives at most 300 periods and is kept since their beginning.
 *
 * @throws AppError `invalid_request` for a time that does not begin before it ends, or is too long for the width
 */
export function seriesTimes(
  { from, to, width }: Pick<SeriesQuery, 'from' | 'to' | 'width'>,
  { nowMs, seriesDays }: Pick<Deps, 'nowMs' | 'seriesDays'>,
): PeriodRange {
  const toMs = to === undefined ? nowMs() : Date.parse(to)
  const fromMs = from === undefined ? toMs - DAY_MS : Date.parse(from)
  if (fromMs >= toMs)
    throw new AppError('invalid_request', `'from' must be before 'to', which is ${at(toMs)}.`, {
      param: 'from',
    })
  if (fromMs < 0)
    throw new AppError('invalid_request', `A series begins in 1970 or later; this one on ${at(fromMs)}.`, {
      param: from === undefined ? 'to' : 'from',
    })
  const days = { 60: seriesDays.minutes, 300: seriesDays.minutes, 3_600: seriesDays.hours, 86_400: 0 }
  const isKept = (each: keyof typeof days) => days[each] === 0 || fromMs >= nowMs() - days[each] * DAY_MS
  const chosen =
    width ??
    SERIES_WIDTHS.find((each) => (toMs - fromMs) / 1000 / each <= CHOSEN_PERIODS && isKept(each)) ??
    86_400
  const periods = {
    width: chosen,
    from: Math.floor(fromMs / 1000 / chosen) * chosen,
    until: Math.ceil(toMs / 1000 / chosen) * chosen,
  }
  if ((periods.until - periods.from) / chosen > MAX_PERIODS)
    throw new AppError(
      'invalid_request',
      `From ${at(fromMs)} to ${at(toMs)} there are more than ${MAX_PERIODS} periods of ${chosen} s. Name a shorter time` +
        `${width === undefined ? '' : ' or a wider width'}.`,
      { param: width === undefined ? 'from' : 'width' },
    )
  return periods
}

function at(timeMs: number): string {
  return new Date(timeMs).toISOString()
}
