/** Tables of receipts and of what is summed from them. Times are Unix milliseconds. */
import type { ErrorCode } from '@copal/shared/errors.ts'
import type { ScoringOutcome } from '@copal/shared/wire/receipts.ts'
import { index, integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** One row per settled attempt of a request, from the node's receipt. Usage and drift are sums of it. */
export const receipts = sqliteTable(
  'receipts',
  {
    requestId: text().primaryKey(),
    nodeId: text().notNull(),
    model: text().notNull(),
    domain: text().notNull(),
    maskVersion: integer().notNull(),
    promptTokens: integer().notNull(),
    completionTokens: integer().notNull(),
    /** `superseded`: its output did not reach the client and the request was retried, so it is neither counted nor charged. */
    finishReason: text({ enum: ['stop', 'length', 'cancelled', 'refused', 'error', 'superseded'] }).notNull(),
    queueMs: real().notNull(),
    timeToFirstTokenMs: real(),
    totalMs: real().notNull(),
    driftTokens: integer(),
    nllMasked: real(),
    nllDense: real(),
    /** Whether the text was scored, and why not; null from older nodes. */
    scoring: text().$type<ScoringOutcome>(),
    /** Settled by the gateway when the lease expired; the node's own receipt replaces it if it still arrives. */
    estimated: integer({ mode: 'boolean' }).notNull(),
    createdAt: integer().notNull(),
    /** The API key that is charged; null for receipts that are older than this column. */
    keyId: text(),
    /** The code of the error that ended the attempt; null where none did, and for receipts of older nodes and estimates. */
    errorCode: text().$type<ErrorCode>(),
    /** An HMAC of its key and first message; null for receipts of older gateways and estimates. */
    conversation: integer(),
    /** Whether the client named the weights, as `model@mask-3` does; null where that is not known. */
    namesWeights: integer({ mode: 'boolean' }),
  },
  (table) => [
    index('receipts_mask').on(table.model, table.maskVersion, table.createdAt),
    index('receipts_key').on(table.keyId, table.createdAt),
  ],
)

/**
 * One row, of id 1: receipts that were stored before this time may be deleted, Unix milliseconds. A receipt of a request from before
 * it, of which nothing is stored, was counted already: as such or as an estimate.
 */
export const receiptHorizons = sqliteTable('receipt_horizons', {
  id: integer().primaryKey(),
  beforeMs: integer().notNull(),
})

/**
 * Sums of all receipts that were ever stored, by the labels of `/metrics` and drift. They are updated as receipts are
 * stored, so that reading them is cheap and old receipts can be deleted.
 */
export const usageTotals = sqliteTable(
  'usage_totals',
  {
    /** Empty for receipts that name no key. */
    tenant: text().notNull(),
    model: text().notNull(),
    domain: text().notNull(),
    maskVersion: integer().notNull(),
    /**
     * `estimated` for a request whose lease expired, until its receipt arrives, and `moved` for what was found to be of
     * another domain, negative under the old one: so that counts of the others never fall.
     */
    finishReason: text({
      enum: ['stop', 'length', 'cancelled', 'refused', 'error', 'estimated', 'moved'],
    }).notNull(),
    requests: integer().notNull(),
    promptTokens: integer().notNull(),
    completionTokens: integer().notNull(),
    /** Requests that were scored under mask and dense weights; the losses below are sums of nats over their tokens. */
    driftRequests: integer().notNull(),
    driftTokens: integer().notNull(),
    nllMasked: real().notNull(),
    nllDense: real().notNull(),
  },
  (table) => [
    primaryKey({
      columns: [table.tenant, table.model, table.domain, table.maskVersion, table.finishReason],
    }),
    // Scrapes and plans read the rows of a few masks, of all tenants or of one.
    index('usage_totals_mask').on(table.model, table.maskVersion, table.tenant),
  ],
)

/**
 * Tokens charged to keys per day (UTC, days since 1970), updated as receipts are stored. Months are summed from it, so that
 * receipts need not be kept for that.
 */
export const usageDays = sqliteTable(
  'usage_days',
  {
    keyId: text().notNull(),
    day: integer().notNull(),
    tokens: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.keyId, table.day] }), index('usage_days_day').on(table.day)],
)

/** The domains of requests that were found by their texts, by the request id of the first attempt; kept for a day. */
export const requestDomains = sqliteTable(
  'request_domains',
  {
    requestId: text().primaryKey(),
    domain: text().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [index('request_domains_created').on(table.createdAt)],
)

/** Scores of one output under the mask that generated it and under a shadow; sums of nats over the same tokens. */
export const shadowScores = sqliteTable(
  'shadow_scores',
  {
    requestId: text().notNull(),
    shadowVersion: integer().notNull(),
    model: text().notNull(),
    domain: text().notNull(),
    maskVersion: integer().notNull(),
    promptTokens: integer().notNull(),
    promptNll: real().notNull(),
    promptNllShadow: real().notNull(),
    answerTokens: integer().notNull(),
    answerNll: real().notNull(),
    answerNllShadow: real().notNull(),
    createdAt: integer().notNull(),
    /** As in the receipts. */
    conversation: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.requestId, table.shadowVersion] }),
    index('shadow_scores_versions').on(table.model, table.shadowVersion, table.maskVersion, table.createdAt),
    index('shadow_scores_created').on(table.createdAt),
  ],
)

/** Sizes and counts of the tenants' response caches, as each of them reports. */
export const cacheCounts = sqliteTable('cache_counts', {
  tenant: text().primaryKey(),
  hits: integer().notNull(),
  misses: integer().notNull(),
  answers: integer().notNull(),
  bytes: integer().notNull(),
})

/**
 * Counts behind metrics that no other table holds, and that many isolates add to. Their labels have few values: domains, outcomes,
 * error codes and classes of personal data.
 */
export const metricCounts = sqliteTable(
  'metric_counts',
  {
    metric: text({
      enum: [
        'samplerDecisions',
        'redactions',
        'requestDuration',
        'requestErrors',
        'timeToFirstToken',
        'scoringOutcomes',
        // Counted by a trigger of the database, so that old decisions can be deleted.
        'decisions',
        'recordsDeleted',
        // Gauges. The first is counted by triggers of the database, too.
        'updates',
        'updatesDue',
      ],
    }).notNull(),
    /** The values of the labels, in their order. */
    labels: text({ mode: 'json' }).$type<string[]>().notNull(),
    value: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.metric, table.labels] })],
)
