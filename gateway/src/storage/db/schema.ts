/** The D1 schema. Times are Unix milliseconds. drizzle-kit turns changes here into `migrations/`. */
import { sql } from 'drizzle-orm'
import type { KeyScope } from '@copal/shared/wire/admin-keys.ts'
import type { Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { PatternRules } from '@copal/shared/wire/selection.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { DomainWeights } from '@copal/shared/wire/selection.ts'
import type { Limits } from '../../contracts/limits.ts'
import type { StoredTrial, StoredWatch } from '../../contracts/trial.ts'
import { index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

/** Tenants. The keys of a tenant share its limits and cannot see data of other tenants. */
export const tenants = sqliteTable('tenants', {
  name: text().primaryKey(),
  createdAt: integer().notNull(),
  /** Limits of all its keys together. */
  limits: text({ mode: 'json' }).$type<Limits>().notNull().default({}),
})

/** API keys, never the keys themselves. A rotated key has two hashes until `previousUntil`. */
export const apiKeys = sqliteTable(
  'api_keys',
  {
    id: text().primaryKey(),
    name: text().notNull(),
    /** HMAC-SHA256 of the key's SHA-256 under the pepper, in hex; while not `peppered`, that SHA-256 itself. */
    hash: text().notNull(),
    prefix: text().notNull(),
    defaultDomain: text().notNull(),
    sampling: text({ enum: ['never', 'opt_in', 'always'] }).notNull(),
    createdAt: integer().notNull(),
    revokedAt: integer(),
    /** False for keys that are older than the pepper, until the next cron run hashes them again. */
    peppered: integer({ mode: 'boolean' }).notNull().default(false),
    /** Hash of the key before the last rotation. */
    previousHash: text(),
    previousUntil: integer(),
    tenant: text().notNull().default('default'),
    scopes: text({ mode: 'json' }).$type<KeyScope[]>().notNull().default(['inference']),
    /** Null allows all. */
    allowedDomains: text({ mode: 'json' }).$type<string[]>(),
    allowedModels: text({ mode: 'json' }).$type<string[]>(),
    expiresAt: integer(),
    limits: text({ mode: 'json' }).$type<Limits>().notNull().default({}),
    /** Incremented when `sampling` changes; every stored sample names the version that it was taken under. */
    consentVersion: integer().notNull().default(1),
  },
  (table) => [
    uniqueIndex('api_keys_hash').on(table.hash),
    index('api_keys_previous_hash')
      .on(table.previousHash)
      .where(sql`${table.previousHash} is not null`),
    index('api_keys_tenant').on(table.tenant),
  ],
)

/**
 * One row per model that a node ever registered, with the desired state that nodes converge to.
 * Version 0 is dense. `revision` grows with every change, for compare-and-set.
 */
export const models = sqliteTable('models', {
  id: text().primaryKey(),
  baseSha256: text().notNull(),
  contextLength: integer().notNull(),
  parameters: integer().notNull(),
  activeVersion: integer().notNull().default(0),
  previousVersion: integer(),
  revision: integer().notNull().default(0),
  createdAt: integer().notNull(),
  /** Trials, in force while the version that they are compared with is active. */
  canary: text({ mode: 'json' }).$type<StoredTrial>(),
  shadow: text({ mode: 'json' }).$type<StoredTrial>(),
  /** The mask that is watched after its promotion, in force while it is active. */
  watch: text({ mode: 'json' }).$type<StoredWatch>(),
})

/** Registered masks; the file is the R2 object `masks/<sha256>`. */
export const masks = sqliteTable(
  'masks',
  {
    model: text().notNull(),
    version: integer().notNull(),
    sha256: text().notNull(),
    parentVersion: integer(),
    updateId: text().notNull(),
    /** An update selects a second or third mask from the same statistics when the gate rejects the one before. */
    candidate: integer().notNull().default(1),
    method: text().notNull(),
    pattern: text().notNull(),
    scope: text({ enum: ['row', 'matrix'] }).notNull(),
    sparsity: real().notNull(),
    churn: real(),
    /** Domains whose statistics chose it, sorted. */
    domains: text({ mode: 'json' }).$type<string[]>().notNull(),
    bytes: integer().notNull(),
    createdAt: integer().notNull(),
    /** When it became active for the first time; null if it never was. */
    promotedAt: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.model, table.version] }),
    uniqueIndex('masks_update').on(table.updateId, table.candidate),
    index('masks_sha256').on(table.sha256),
  ],
)

/** The name under which the operator's fixed holdout stands beside those of domains; no domain can have it. */
export const GENERAL_HOLDOUT = '(general)'

/** Domains that were sampled or created; their held-out texts are in `holdouts`. */
export const domains = sqliteTable('domains', {
  name: text().primaryKey(),
  createdAt: integer().notNull(),
  /** The tenant whose sample created it; null if an operator created it, or if it is older than this column. */
  createdBy: text(),
})

/** Frozen calibration datasets; each is the R2 object `datasets/<sha256>`, newline-delimited JSON. */
export const datasets = sqliteTable('datasets', {
  sha256: text().primaryKey(),
  domain: text().notNull(),
  samples: integer().notNull(),
  bytes: integer().notNull(),
  createdAt: integer().notNull(),
})

/** COPAL updates; `state` changes only through the reducer, by compare-and-set on `revision`. */
export const updates = sqliteTable(
  'updates',
  {
    id: text().primaryKey(),
    model: text().notNull(),
    domains: text({ mode: 'json' }).$type<string[]>().notNull(),
    method: text().notNull(),
    pattern: text().notNull(),
    /** Sparsity patterns of single linears, see `patternRules`. */
    patterns: text({ mode: 'json' }).$type<PatternRules>().notNull().default({}),
    scope: text({ enum: ['row', 'matrix'] }).notNull(),
    samples: integer().notNull(),
    length: integer().notNull(),
    seed: integer().notNull(),
    state: text({
      enum: [
        'collecting',
        'calibrating',
        'evaluating',
        'confirming',
        'canary',
        'promoting',
        'promoted',
        'rolled_back',
        'failed',
        'cancelled',
      ],
    }).notNull(),
    revision: integer().notNull().default(0),
    /** SHA-256 of this update's own datasets, one per domain, once they are collected. */
    datasets: text({ mode: 'json' }).$type<string[]>(),
    /** The mask that was active when its datasets were collected. */
    parentVersion: integer(),
    maskVersion: integer(),
    /** The candidate that `maskVersion` is or will be, from 1. */
    candidate: integer().notNull().default(1),
    /** Domain weights of that candidate's selection; null for the weights of the policy. */
    weights: text({ mode: 'json' }).$type<DomainWeights>(),
    errorCode: text(),
    errorMessage: text(),
    createdAt: integer().notNull(),
    finishedAt: integer(),
  },
  (table) => [
    index('updates_model_state').on(table.model, table.state),
    // One running update per model: a second one cannot be inserted.
    uniqueIndex('updates_running')
      .on(table.model)
      .where(sql`${table.finishedAt} is null`),
  ],
)

/**
 * The versions of each domain's holdout, from 1; each is an immutable dataset. Losses are compared on the same version only.
 * The domain {@link GENERAL_HOLDOUT} holds the operator's fixed text.
 */
export const holdouts = sqliteTable(
  'holdouts',
  {
    domain: text().notNull(),
    version: integer().notNull(),
    sha256: text().notNull(),
    samples: integer().notNull(),
    characters: integer().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.domain, table.version] }),
    index('holdouts_sha256').on(table.sha256),
  ],
)

/**
 * The texts that one update calibrated a domain on; a text is in one batch of a model only. `counted` batches are in the
 * statistics that masks are selected from; `quarantined` ones belong to updates that were rolled back; `retired` ones no
 * longer count.
 */
export const batches = sqliteTable(
  'batches',
  {
    model: text().notNull(),
    datasetSha256: text().notNull(),
    updateId: text().notNull(),
    domain: text().notNull(),
    state: text({ enum: ['counted', 'quarantined', 'retired'] }).notNull(),
    /** Calibrated tokens, as the node reported; null if the update's method read no statistics, and for older batches. */
    tokens: integer(),
    /** False until the reservoir knows which texts the batch contains, for batches that are older than this column. */
    marked: integer({ mode: 'boolean' }).notNull().default(true),
    createdAt: integer().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.model, table.datasetSha256, table.updateId] }),
    index('batches_domain').on(table.domain),
    index('batches_update').on(table.updateId),
  ],
)

/** Statistics artifacts in R2, `statistics/<artifact>/…`: sums over some batches of one domain. */
export const statistics = sqliteTable(
  'statistics',
  {
    model: text().notNull(),
    artifact: text().notNull(),
    domain: text().notNull(),
    /** The datasets that it sums. */
    datasets: text({ mode: 'json' }).$type<string[]>().notNull(),
    bytes: integer().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.artifact] })],
)

/** The adaptation policies that operators set; models without a row use the preset of the deployment. */
export const policies = sqliteTable('policies', {
  model: text().primaryKey(),
  policy: text({ mode: 'json' }).$type<PolicyOverrides>().notNull(),
  updatedAt: integer().notNull(),
})

/** Decisions about masks, with what was measured; rows are never changed. */
export const decisions = sqliteTable(
  'decisions',
  {
    id: integer().primaryKey({ autoIncrement: true }),
    model: text().notNull(),
    /** Null for a decision that belongs to no update. */
    updateId: text(),
    maskVersion: integer(),
    kind: text({
      enum: ['gate', 'confirm', 'canary', 'watch', 'force', 'promote', 'roll_back', 'policy'],
    }).notNull(),
    verdict: text({ enum: ['passed', 'failed', 'retried', 'done'] }).notNull(),
    reason: text().notNull(),
    figures: text({ mode: 'json' }).$type<DecisionFigure[]>().notNull().default([]),
    /** The admin key's id, or `copal` for decisions of the service itself. */
    actor: text().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [
    index('decisions_update').on(table.updateId),
    index('decisions_model').on(table.model, table.createdAt),
  ],
)

/** Deletions of samples. Queued samples that are older and match every given column are not stored. */
export const tombstones = sqliteTable('tombstones', {
  id: integer().primaryKey({ autoIncrement: true }),
  domain: text(),
  keyId: text(),
  tenant: text(),
  requestId: text(),
  createdAt: integer().notNull(),
})

/** Jobs for nodes, sent in heartbeat responses. `nodeId` is the node that took it last, `handedTo` are all that ever did. */
export const jobs = sqliteTable(
  'jobs',
  {
    id: text().primaryKey(),
    updateId: text().notNull(),
    model: text().notNull(),
    kind: text({ enum: ['calibrate', 'evaluate'] }).notNull(),
    payload: text({ mode: 'json' }).$type<Job>().notNull(),
    state: text({ enum: ['queued', 'running', 'done', 'failed', 'cancelled'] }).notNull(),
    progress: real().notNull().default(0),
    message: text().notNull().default(''),
    result: text({ mode: 'json' }).$type<NonNullable<JobReport['result']>>(),
    errorCode: text(),
    errorMessage: text(),
    nodeId: text(),
    handedTo: text({ mode: 'json' }).$type<string[]>().notNull().default([]),
    attempts: integer().notNull().default(0),
    /** Attempts in a row that were lost without more progress than `bestProgress`. */
    stalls: integer().notNull().default(0),
    bestProgress: real().notNull().default(0),
    /** Nodes that get the job only while no other node is alive, because they made what it checks. */
    avoidNodes: text({ mode: 'json' }).$type<string[]>().notNull().default([]),
    createdAt: integer().notNull(),
    /** When `nodeId` took it. */
    handedAt: integer(),
    /** Time of the last report of this attempt, null before the first; the job of a silent node is handed out again. */
    seenAt: integer(),
  },
  (table) => [
    index('jobs_model_state').on(table.model, table.state),
    index('jobs_update').on(table.updateId),
  ],
)

/** Held-out loss of a mask on one version of a domain's holdout: the cells of the R matrix. Version 0 is dense. */
export const evaluations = sqliteTable(
  'evaluations',
  {
    model: text().notNull(),
    version: integer().notNull(),
    domain: text().notNull(),
    holdoutSha256: text().notNull(),
    tokens: integer().notNull(),
    nllMean: real().notNull(),
    /** Mean loss of each window, nats a token, in order; null for evaluations that are older than this column. */
    windowNll: text({ mode: 'json' }).$type<number[]>(),
    createdAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.version, table.domain, table.holdoutSha256] })],
)

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
    /** Settled by the gateway when the lease expired; the node's own receipt replaces it if it still arrives. */
    estimated: integer({ mode: 'boolean' }).notNull(),
    createdAt: integer().notNull(),
    /** The API key that is charged; null for receipts that are older than this column. */
    keyId: text(),
  },
  (table) => [
    index('receipts_created').on(table.createdAt),
    index('receipts_key').on(table.keyId, table.createdAt),
  ],
)

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
    /** `estimated` for a request whose lease expired, until its receipt arrives, so that counts of the others never fall. */
    finishReason: text({ enum: ['stop', 'length', 'cancelled', 'refused', 'error', 'estimated'] }).notNull(),
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
