import { AppError } from '@copal/shared/errors.ts'
import type { SeriesQuery, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listPeriods } from '../../storage/db/queries/period-queries.ts'
import { maskSeries } from './mask-series.ts'
import { seriesMarks } from './series-marks.ts'
import { seriesTimes } from './series-times.ts'

/** Periods of all series together, so that a response stays below some 15 MB. */
const MAX_ROWS = 50_000

/**
 * Reports traffic and drift of a model over time, with what happened to its masks. It reads periods alone, so it costs the same
 * however many requests there were.
 *
 * @throws AppError `invalid_request` for times that a series cannot have, or for too many periods
 */
export async function seriesReport(
  deps: Pick<Deps, 'db' | 'nowMs' | 'seriesDays'>,
  model: string,
  query: Omit<SeriesQuery, 'model'>,
): Promise<SeriesReport> {
  const range = seriesTimes(query, deps)
  const { width, from, until } = range
  const about = { model, domain: query.domain }
  const [rows, marks] = await Promise.all([
    listPeriods(deps.db, about, range, MAX_ROWS + 1),
    seriesMarks(deps.db, about, range),
  ])
  if (rows.length > MAX_ROWS)
    throw new AppError(
      'invalid_request',
      `All domains together have more than ${MAX_ROWS} periods of ${width} s in this time. Name a domain, a shorter time or a wider width.`,
      { param: 'domain' },
    )
  return {
    model,
    width,
    starts: Array.from({ length: (until - from) / width }, (_, index) => from + index * width),
    series: maskSeries(rows, range),
    marks,
  }
}
