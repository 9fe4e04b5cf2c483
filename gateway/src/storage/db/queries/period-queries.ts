import { and, asc, eq, gte, inArray, lt, sql, sum, type SQL } from 'drizzle-orm'
import { DAY_MS } from '@copal/shared/day.ts'
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import type { SERIES_WIDTHS } from '@copal/shared/wire/admin-series.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { periodDomains, trafficPeriods } from '../schema/periods.ts'
import { countedDomains } from './period-domains.ts'

/** A width of periods, seconds. */
export type PeriodWidth = (typeof SERIES_WIDTHS)[number]

/** Periods of one width whose starts are from `from` until before `until`, Unix seconds. */
export interface PeriodRange {
  width: PeriodWidth
  from: number
  until: number
}

const HOUR = 3_600
const DAY = 86_400

/** How old the narrow periods are at most that sums are made of; the settings keep them for longer than that. */
const MAX_AGES = { minute: DAY, hour: 31 * DAY } as const

/** The traffic of a domain under a mask in one period. */
export type TrafficPeriod = Awaited<ReturnType<typeof listPeriods>>[number]

/**
 * Returns the periods of a model, of one domain or all, by domain, mask and start. Their number does not depend on that of
 * receipts, and no other rows are read.
 */
export async function listPeriods(
  db: Database,
  { model, domain }: { model: string; domain?: string | undefined },
  range: PeriodRange,
  limit: number,
) {
  const { maskVersion, start, requests, failed, promptTokens, completionTokens } = trafficPeriods
  const { scoredRequests, scoredTokens, maskedSum, maskedSquares, denseSum, denseSquares } = trafficPeriods
  const { gapSum, gapSquares, notSampled, tooShort, overBudget, evicted, scoringFailed } = trafficPeriods
  return db
    .select({
      domain: trafficPeriods.domain,
      maskVersion,
      start,
      requests,
      failed,
      promptTokens,
      completionTokens,
      firstTokenCounts: countsOf('first_token', FIRST_TOKEN_BOUNDS_MS),
      scoredRequests,
      scoredTokens,
      maskedSum,
      maskedSquares,
      denseSum,
      denseSquares,
      gapSum,
      gapSquares,
      notSampled,
      tooShort,
      overBudget,
      evicted,
      scoringFailed,
    })
    .from(trafficPeriods)
    .where(
      and(
        domain === undefined ? isCounted(model) : eq(trafficPeriods.domain, domain),
        isWithin(model, range),
      ),
    )
    .orderBy(asc(trafficPeriods.domain), asc(maskVersion), asc(start))
    .limit(limit)
}

/** Returns tokens and the cost of pruning of all periods of a model, by domain, mask and start. */
export async function listGapPeriods(db: Database, model: string, range: PeriodRange, limit: number) {
  const { domain, maskVersion, start, promptTokens, completionTokens, scoredRequests, gapSum } =
    trafficPeriods
  return db
    .select({
      domain,
      start,
      tokens: sql<number>`${promptTokens} + ${completionTokens}`,
      scoredRequests,
      gapSum,
    })
    .from(trafficPeriods)
    .where(and(isCounted(model), isWithin(model, range)))
    .orderBy(asc(domain), asc(maskVersion), asc(start))
    .limit(limit)
}

/** Returns the traffic of a model in each period, over all domains and masks, by start; periods without any are left out. */
export async function sumPeriods(db: Database, model: string, range: PeriodRange) {
  const { start, requests, failed, promptTokens, completionTokens } = trafficPeriods
  return db
    .select({
      start,
      requests: sum(requests).mapWith(Number),
      failed: sum(failed).mapWith(Number),
      tokens: sql`sum(${promptTokens} + ${completionTokens})`.mapWith(Number),
      firstTokenCounts: summedCountsOf('first_token', FIRST_TOKEN_BOUNDS_MS),
    })
    .from(trafficPeriods)
    .where(and(isCounted(model), isWithin(model, range)))
    .groupBy(start)
    .orderBy(asc(start))
}

/** Returns the settled tokens of each domain of a model since a time, which is rounded down to the start of a period. */
export async function sumTokensByDomain(
  db: Database,
  model: string,
  { fromMs, nowMs }: { fromMs: number; nowMs: number },
): Promise<Map<string, number>> {
  const rows = await db.all<{ domain: string; tokens: number }>(sql`
    select domain, sum(prompt_tokens + completion_tokens) tokens
    from ${periodsSince(model, { fromMs, nowMs })} group by domain`)
  return new Map(rows.map(({ domain, tokens }) => [domain, tokens]))
}

/** Returns the settled tokens of each domain of a model in the last 30 days, by which domains weigh. */
export function sumRecentTokens(db: Database, model: string, nowMs: number): Promise<Map<string, number>> {
  return sumTokensByDomain(db, model, { fromMs: nowMs - 30 * DAY_MS, nowMs })
}

/** Sums of the requests of one mask version, and means of their times. */
export interface VersionSum {
  maskVersion: number
  /** With superseded attempts. */
  requests: number
  failed: number
  promptTokens: number
  completionTokens: number
  timeToFirstTokenMs: number | null
  totalMs: number | null
  driftTokens: number
  nllMasked: number
  nllDense: number
}

/**
 * Returns sums, and means of times, of a model's mask versions since a time, which is rounded down to the start of a period.
 * Failed attempts count, even if their request was retried; requests whose clients named the weights do not.
 */
export async function sumVersionsSince(
  db: Database,
  model: string,
  { fromMs, nowMs }: { fromMs: number; nowMs: number },
): Promise<VersionSum[]> {
  const firstTokens = sumOf('first_token', FIRST_TOKEN_BOUNDS_MS)
  const durations = sumOf('duration', DURATION_BOUNDS_MS)
  return db.all<VersionSum>(sql`
    select mask_version maskVersion, sum(requests + superseded - named_requests) requests,
      sum(failed + superseded - named_failed) failed, sum(prompt_tokens - named_prompt_tokens) promptTokens,
      sum(completion_tokens - named_completion_tokens) completionTokens,
      sum(first_token_sum_ms - named_first_token_sum_ms) / nullif(sum(${firstTokens} - named_first_tokens), 0) timeToFirstTokenMs,
      sum(duration_sum_ms - named_duration_sum_ms) / nullif(sum(${durations} - named_durations), 0) totalMs,
      sum(scored_tokens - named_scored_tokens) driftTokens, sum(nll_masked - named_nll_masked) nllMasked,
      sum(nll_dense - named_nll_dense) nllDense
    from ${periodsSince(model, { fromMs, nowMs })} group by mask_version`)
}

/** Deletes the periods of a domain, of all models. Its name stays that of its rows, so that corrections know what they correct. */
export function deletePeriodsOf(db: Database, domain: string) {
  const models = db
    .select({ model: periodDomains.model })
    .from(periodDomains)
    .where(eq(periodDomains.domain, domain))
  return db
    .delete(trafficPeriods)
    .where(and(inArray(trafficPeriods.model, models), eq(trafficPeriods.domain, domain)))
}

/**
 * Deletes periods of one width that began before a time.
 *
 * @param before Unix seconds
 * @returns the number of deleted periods, at most `limit`
 */
export async function deletePeriods(
  db: Database,
  { width, before }: { width: PeriodWidth; before: number },
  limit: number,
): Promise<number> {
  const { meta } = await db.run(sql`
    delete from traffic_periods where rowid in (
      select period.rowid from (${COUNTED_DOMAINS}) counted cross join traffic_periods period
        on period.model = counted.model and period.domain = counted.domain
          and period.width = ${width} and period.start < ${before}
      limit ${limit})`)
  return meta.changes
}

/** Frees the names of domains that have no periods left, once nothing that was counted before `beforeMs` is corrected any more. */
export async function deleteUnusedNames(db: Database, beforeMs: number): Promise<void> {
  await db.run(sql`
    delete from period_domains where since < ${beforeMs} and not exists (
      select 1 from traffic_periods period
      where period.model = period_domains.model and period.domain = period_domains.domain)`)
}

/** Every model and domain with periods, the other domains of a model among them. */
const COUNTED_DOMAINS = sql`
  select model, domain from period_domains union select model, ${OTHER_DOMAINS} from period_domains`

/** Whether a period is of a domain that is counted by name or of the others: names each, so that the index finds their rows. */
function isCounted(model: string): SQL {
  return sql`${trafficPeriods.domain} in (
    select ${periodDomains.domain} from ${periodDomains} where ${periodDomains.model} = ${model}
    union all select ${OTHER_DOMAINS})`
}

/** Whether a period is of a model, width and time. */
function isWithin(model: string, { width, from, until }: PeriodRange): SQL | undefined {
  const { start } = trafficPeriods
  return and(
    eq(trafficPeriods.model, model),
    eq(trafficPeriods.width, width),
    gte(start, from),
    lt(start, until),
  )
}

/**
 * Returns a table expression of the fewest periods of a model that cover the time since `fromMs`, rounded down: minutes until the
 * next full hour, hours until the next full day, then days. Older times are covered by wider periods alone.
 */
function periodsSince(model: string, { fromMs, nowMs }: { fromMs: number; nowMs: number }): SQL {
  const ranges = JSON.stringify(
    rangesSince(fromMs, nowMs).map(({ width, from, until }) => [width, from, until]),
  )
  return sql`(
    select period.* from json_each(${ranges}) range
      cross join ${countedDomains(model)} counted
      cross join traffic_periods period on period.model = ${model} and period.domain = counted.domain
        and period.width = range.value ->> 0 and period.start >= range.value ->> 1 and period.start < range.value ->> 2)`
}

/** Returns the ranges of periods that cover the time since `fromMs`, each once; the current periods are whole. */
export function rangesSince(fromMs: number, nowMs: number): PeriodRange[] {
  const from = fromMs / 1000
  const now = nowMs / 1000
  const end = (Math.floor(now / DAY) + 1) * DAY
  const up = (time: number, width: number) => Math.ceil(time / width) * width
  const down = (time: number, width: number) => Math.floor(time / width) * width
  if (now - from > MAX_AGES.hour) return [{ width: DAY, from: down(from, DAY), until: end }]
  const hours = (start: number): PeriodRange[] => {
    const day = Math.min(up(start, DAY), end)
    return [
      { width: HOUR, from: start, until: day },
      { width: DAY, from: day, until: end },
    ]
  }
  if (now - from > MAX_AGES.minute) return hours(down(from, HOUR))
  const minute = down(from, 60)
  const hour = up(minute, HOUR)
  return [{ width: 60, from: minute, until: hour }, ...hours(hour)]
}

/** The counts of the buckets of a histogram. */
function countsOf(prefix: string, bounds: readonly number[]): SQL<number[]> {
  return sql`json_array(${sql.raw(bucketsOf(prefix, bounds).join(', '))})`.mapWith(parseCounts)
}

/** The sums of these counts over rows. */
function summedCountsOf(prefix: string, bounds: readonly number[]): SQL<number[]> {
  const sums = bucketsOf(prefix, bounds).map((bucket) => `sum(${bucket})`)
  return sql`json_array(${sql.raw(sums.join(', '))})`.mapWith(parseCounts)
}

function sumOf(prefix: string, bounds: readonly number[]): SQL {
  return sql.raw(bucketsOf(prefix, bounds).join(' + '))
}

function bucketsOf(prefix: string, bounds: readonly number[]): string[] {
  return [...bounds, Number.POSITIVE_INFINITY].map((_, bucket) => prefix + String(bucket))
}

function parseCounts(json: string): number[] {
  return json.slice(1, -1).split(',').map(Number)
}
