import { getTableColumns, sql, type SQL } from 'drizzle-orm'
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import { SERIES_WIDTHS } from '@copal/shared/wire/admin-series.ts'
import type { Database } from '../../../contracts/database.ts'
import { trafficPeriods } from '../schema/periods.ts'
import { addedColumns } from './added-columns.ts'
import { PERIOD_NAME } from './period-domains.ts'

/** The columns in the order of the table: those of the key, and those that add up. */
const KEY = ['model', 'domain', 'width', 'start', 'maskVersion']
const SUMMED = Object.keys(getTableColumns(trafficPeriods)).slice(KEY.length)

/** The terms that the columns of a period add up over requests: numbers, or truth values. The buckets are those of {@link termOf}. */
const REQUEST_TERMS: Readonly<Record<string, string>> = {
  requests: '1',
  failed: `finish_reason = 'error'`,
  promptTokens: 'prompt_tokens',
  completionTokens: 'completion_tokens',
  firstTokenSumMs: 'coalesce(time_to_first_token_ms, 0)',
  durationSumMs: 'coalesce(duration_ms, 0)',
  scoredRequests: 'is_scored',
  scoredTokens: 'iif(is_scored, drift_tokens, 0)',
  maskedSum: 'coalesce(masked, 0)',
  maskedSquares: 'coalesce(masked * masked, 0)',
  denseSum: 'coalesce(dense, 0)',
  denseSquares: 'coalesce(dense * dense, 0)',
  gapSum: 'coalesce(masked - dense, 0)',
  gapSquares: 'coalesce((masked - dense) * (masked - dense), 0)',
  nllMasked: 'iif(is_scored, nll_masked, 0)',
  nllDense: 'iif(is_scored, nll_dense, 0)',
  notSampled: `scoring is 'not_sampled'`,
  tooShort: `scoring is 'too_short'`,
  overBudget: `scoring is 'budget'`,
  evicted: `scoring is 'evicted'`,
  scoringFailed: `scoring is 'failed'`,
  namedPromptTokens: 'is_named * prompt_tokens',
  namedCompletionTokens: 'is_named * completion_tokens',
  namedFirstTokens: 'is_named * (time_to_first_token_ms is not null)',
  namedFirstTokenSumMs: 'is_named * coalesce(time_to_first_token_ms, 0)',
  namedDurations: 'is_named * (duration_ms is not null)',
  namedDurationSumMs: 'is_named * coalesce(duration_ms, 0)',
  namedScoredTokens: 'is_named * iif(is_scored, drift_tokens, 0)',
  namedNllMasked: 'is_named * iif(is_scored, nll_masked, 0)',
  namedNllDense: 'is_named * iif(is_scored, nll_dense, 0)',
}

/** The sums of columns that superseded attempts are counted in too, see {@link REQUEST_TERMS}. */
const ATTEMPT_SUMS: Readonly<Record<string, string>> = {
  superseded: 'sum(sign - request)',
  namedRequests: 'sum(sign * is_named)',
  namedFailed: `sum(sign * is_named * (finish_reason in ('error', 'superseded')))`,
}

const list = (parts: readonly string[]): SQL => sql.raw(parts.join(', '))
const TERMS = list(SUMMED.map((column) => `${termOf(column)} ${column}`))
const KEY_COLUMNS = list(KEY.map((column) => (column === 'start' ? 'wideStart' : column)))
const SUMS = list(SUMMED.map((column) => `sum(${column})`))
const WIDTHS = JSON.stringify(SERIES_WIDTHS)

/**
 * Adds the rows of a common table expression `changed` to the periods of their times, in all widths. Each is counted in the period
 * in which its receipt was stored, so what corrects it later reaches the same rows. A correction of a period that was deleted is
 * dropped.
 */
export function addChangesToPeriods(db: Database, changes: SQL) {
  const added = sql`
    with ${changes}, named as (
      select changed.*, ${PERIOD_NAME} name,
        iif(finish_reason = 'superseded', 0, sign) request, coalesce(drift_tokens, 0) > 0 is_scored,
        names_weights is 1 is_named,
        ${meanOf('nll_masked')} masked, ${meanOf('nll_dense')} dense,
        ${bucketOf('time_to_first_token_ms', FIRST_TOKEN_BOUNDS_MS)} first_token_bucket,
        ${bucketOf('duration_ms', DURATION_BOUNDS_MS)} duration_bucket
      from (select *, iif(estimated, null, total_ms) duration_ms from changed) changed
    ), minutes as materialized (
      select sign, model, name domain, created_at / 60000 * 60 start, mask_version maskVersion, ${TERMS}
      from named group by 1, 2, 3, 4, 5
    ), periods as (
      select minutes.*, value width, start - start % value wideStart from minutes, json_each(${WIDTHS})
    )
    select ${KEY_COLUMNS}, ${SUMS} from periods
    where sign > 0 or exists (
      select 1 from traffic_periods known
      where known.model = periods.model and known.domain = periods.domain and known.width = periods.width
        and known.start = periods.wideStart and known.mask_version = periods.maskVersion)
    group by 1, 2, 3, 4, 5`
  const { model, domain, width, start, maskVersion } = trafficPeriods
  return db
    .insert(trafficPeriods)
    .select(added)
    .onConflictDoUpdate({ target: [model, domain, width, start, maskVersion], set: addedColumns(SUMMED) })
}

/** The sum of a column over the rows of `named`. */
function termOf(column: string): string {
  const ofAttempts = ATTEMPT_SUMS[column]
  if (ofAttempts !== undefined) return ofAttempts
  const bucket = /^(firstToken|duration)(\d+)$/.exec(column)
  const term = bucket
    ? `${bucket[1] === 'duration' ? 'duration' : 'first_token'}_bucket is ${bucket[2]}`
    : REQUEST_TERMS[column]
  if (term === undefined) throw new TypeError(`the column '${column}' of periods has no sum`)
  return `sum(request * (${term}))`
}

/** The mean loss of a request, nats a token; of a parameter, whose sums may be whole numbers, it must not be a whole one. */
function meanOf(column: string): SQL {
  return sql.raw(`${column} * 1.0 / nullif(drift_tokens, 0)`)
}

/** Returns the number of the bucket that a value is in, as SQL; null for null. */
export function bucketOf(column: string, bounds: readonly number[]): SQL {
  const cases = bounds.map((bound, bucket) => `when ${column} <= ${bound} then ${bucket}`)
  return sql.raw(`case when ${column} is null then null ${cases.join(' ')} else ${bounds.length} end`)
}
