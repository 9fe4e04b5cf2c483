import { AppError } from '@copal/shared/errors.ts'
import type { GapsReport, SeriesQuery, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listGapPeriods, listPeriods, type PeriodRange } from '../../storage/db/queries/period-queries.ts'
import { domainGaps } from './domain-gaps.ts'
import { maskSeries } from './mask-series.ts'
import { seriesMarks } from './series-marks.ts'
import { seriesTimes } from './series-times.ts'

/** Periods of all series together, so that a response stays below some 15 MB. */
const MAX_ROWS = 50_000
/** The same for a report of the gaps alone. */
const MAX_GAP_ROWS = 200_000

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
  const about = { model, domain: query.domain }
  const [rows, marks] = await Promise.all([
    listPeriods(deps.db, about, range, MAX_ROWS + 1),
    seriesMarks(deps.db, about, range),
  ])
  if (rows.length > MAX_ROWS)
    throw new AppError(
      'invalid_request',
      `All domains together have more than ${MAX_ROWS} periods of ${range.width} s in this time. Name a domain, a shorter time or a wider width.`,
      { param: 'domain' },
    )
  return { ...periodsOf(model, range), series: maskSeries(rows, range), marks }
}

/**
 * Reports what pruning costs each domain over time: one value a period, where {@link seriesReport} has 23.
 *
 * @throws AppError `invalid_request` for times that a series cannot have, or for too many periods
 */
export async function gapsReport(
  deps: Pick<Deps, 'db' | 'nowMs' | 'seriesDays'>,
  model: string,
  query: Omit<SeriesQuery, 'model' | 'domain'>,
): Promise<GapsReport> {
  const range = seriesTimes(query, deps)
  const [rows, marks] = await Promise.all([
    listGapPeriods(deps.db, model, range, MAX_GAP_ROWS + 1),
    seriesMarks(deps.db, { model, domain: undefined }, range),
  ])
  if (rows.length > MAX_GAP_ROWS)
    throw new AppError(
      'invalid_request',
      `All domains together have more than ${MAX_GAP_ROWS} periods of ${range.width} s in this time. Choose a shorter time or a wider width.`,
      { param: 'width' },
    )
  return { ...periodsOf(model, range), domains: domainGaps(rows, range), marks }
}

function periodsOf(model: string, { width, from, until }: PeriodRange) {
  const starts = Array.from({ length: (until - from) / width }, (_, index) => from + index * width)
  return { model, width, starts }
}
