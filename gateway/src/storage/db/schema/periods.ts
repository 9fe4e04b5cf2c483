/**
 * Roll-ups of receipts by periods of time, which all add up: two rows of any kind make one by adding their columns. A receipt is
 * counted in one period of each width in the transaction that stores it, so nothing has to be folded later, and a correction
 * reaches all widths.
 */
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import { index, integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core'

const count = () => integer().notNull()
const total = () => real().notNull()

/** Requests by a time; bucket `i` is up to the bound `i`, and the last one is without a bound. */
const buckets = <Name extends string>(name: Name, bounds: readonly number[]) =>
  Object.fromEntries(
    Array.from({ length: bounds.length + 1 }, (_, bucket) => [name + String(bucket), count()]),
  ) as Record<`${Name}${number}`, ReturnType<typeof count>>

const laterCount = () => count().default(0)
const laterTotal = () => total().default(0)

/**
 * What of the counts above is of requests whose clients named the weights, as `model@mask-3` does: a canary did not choose theirs. With
 * superseded attempts, which have failed.
 */
const ofNamedWeights = {
  namedRequests: laterCount(),
  namedFailed: laterCount(),
  namedPromptTokens: laterCount(),
  namedCompletionTokens: laterCount(),
  namedFirstTokens: laterCount(),
  namedFirstTokenSumMs: laterTotal(),
  namedDurations: laterCount(),
  namedDurationSumMs: laterTotal(),
  namedScoredTokens: laterCount(),
  namedNllMasked: laterTotal(),
  namedNllDense: laterTotal(),
}

/** Traffic and drift of a domain of a model under a mask, by period. */
export const trafficPeriods = sqliteTable(
  'traffic_periods',
  {
    model: text().notNull(),
    /** `(other)` for all domains that are not in `period_domains`. */
    domain: text().notNull(),
    /** Seconds. */
    width: integer().notNull(),
    /** Start of the period, Unix seconds, a multiple of `width`. */
    start: integer().notNull(),
    maskVersion: integer().notNull(),
    /** Settled requests and estimates; without superseded attempts. */
    requests: count(),
    failed: count(),
    /** Attempts whose request was retried, which count nowhere else. */
    superseded: count(),
    promptTokens: count(),
    completionTokens: count(),
    firstTokenSumMs: total(),
    durationSumMs: total(),
    ...buckets('firstToken', FIRST_TOKEN_BOUNDS_MS),
    ...buckets('duration', DURATION_BOUNDS_MS),
    /** Requests whose texts were scored under mask and dense weights. */
    scoredRequests: count(),
    scoredTokens: count(),
    /** Sums, and sums of squares, of the mean losses of requests, nats a token: under the mask, dense, and of the difference. */
    maskedSum: total(),
    maskedSquares: total(),
    denseSum: total(),
    denseSquares: total(),
    gapSum: total(),
    gapSquares: total(),
    /** Sums of losses over the scored tokens, nats. */
    nllMasked: total(),
    nllDense: total(),
    /** Requests whose texts were not scored, by the reason. */
    notSampled: count(),
    tooShort: count(),
    overBudget: count(),
    evicted: count(),
    scoringFailed: count(),
    ...ofNamedWeights,
  },
  (table) => [
    primaryKey({ columns: [table.model, table.domain, table.width, table.start, table.maskVersion] }),
  ],
)

/**
 * Domains that periods count by name: registered ones, and the first others of a model. Receipts that were stored before `since`
 * are counted under `(other)`, so that a receipt always tells which rows count it. In the row of `(other)`, `since` is when
 * something was counted under it last.
 */
export const periodDomains = sqliteTable(
  'period_domains',
  {
    model: text().notNull(),
    domain: text().notNull(),
    /** Unix milliseconds. */
    since: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.domain] })],
)

/** Sums of the scores of shadows by minute and by hour, so that a trial is reported without reading its scores. */
export const shadowPeriods = sqliteTable(
  'shadow_periods',
  {
    model: text().notNull(),
    shadowVersion: integer().notNull(),
    maskVersion: integer().notNull(),
    domain: text().notNull(),
    /** Seconds: 60 or 3600. */
    width: integer().notNull(),
    /** Start of the period, Unix seconds, a multiple of `width`. */
    start: integer().notNull(),
    requests: count(),
    promptTokens: count(),
    promptNll: total(),
    promptNllShadow: total(),
    answerTokens: count(),
    answerNll: total(),
    answerNllShadow: total(),
  },
  (table) => [
    primaryKey({
      columns: [table.model, table.shadowVersion, table.maskVersion, table.domain, table.width, table.start],
    }),
    index('shadow_periods_start').on(table.start),
  ],
)
