/** Tables of updates, their jobs, and the batches and statistics that they leave. Times are Unix milliseconds. */
import type { Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { UpdateState, UpdateTrigger } from '@copal/shared/wire/admin.ts'
import type { DomainWeights, PatternRules } from '@copal/shared/wire/selection.ts'
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

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
    state: text().$type<UpdateState>().notNull(),
    revision: integer().notNull().default(0),
    /** SHA-256 of this update's own datasets, one per domain, once they are collected. */
    datasets: text({ mode: 'json' }).$type<string[]>(),
    /** The mask that was active when its datasets were collected; until then, null or that when an update for one domain began. */
    parentVersion: integer(),
    maskVersion: integer(),
    /** The candidate that `maskVersion` is or will be, from 1. */
    candidate: integer().notNull().default(1),
    /** Domain weights of that candidate's selection; null for the weights of the policy. */
    weights: text({ mode: 'json' }).$type<DomainWeights>(),
    errorCode: text(),
    errorMessage: text(),
    trigger: text().$type<UpdateTrigger>().notNull().default('manual'),
    /** Why it started then, for people; empty where an operator started it. */
    triggerReason: text().notNull().default(''),
    /** The domain that gets the mask for itself, beside the shared one; null for a mask that all domains share. */
    ownDomain: text(),
    createdAt: integer().notNull(),
    /** When it came into its state; null for updates that are older than this column, and before the first change. */
    stateSince: integer(),
    /** When a live node first served its mask while it is promoting. */
    servedSince: integer(),
    finishedAt: integer(),
    /** The state in which it failed or was cancelled; null for others, and for updates that are older than this column. */
    endedIn: text().$type<UpdateState>(),
  },
  (table) => [
    index('updates_model_state').on(table.model, table.state),
    // What became of the update of a mask.
    index('updates_mask').on(table.model, table.maskVersion),
    // Lists show the newest, of all models or of one.
    index('updates_created').on(table.createdAt),
    index('updates_model_created').on(table.model, table.createdAt),
    // One running update per model: a second one cannot be inserted.
    uniqueIndex('updates_running')
      .on(table.model)
      .where(sql`${table.finishedAt} is null`),
  ],
)

/**
 * The result of a job as stored: of a calibration the tokens of the update's own datasets only, and in their place the domains of
 * all that it counted. Results that earlier versions stored name all datasets, and no domains.
 */
type JobResult = NonNullable<JobReport['result']> & { countedDomains?: string[] }

/** Jobs for nodes, sent in heartbeat responses. `nodeId` is the node that took it last, `handedTo` are all that ever did. */
export const jobs = sqliteTable(
  'jobs',
  {
    id: text().primaryKey(),
    updateId: text().notNull(),
    model: text().notNull(),
    kind: text({ enum: ['calibrate', 'evaluate'] }).notNull(),
    /** A calibration without what grows with the counted datasets: those are in `update_inputs`, and statistics are looked up. */
    payload: text({ mode: 'json' }).$type<Job>().notNull(),
    state: text({ enum: ['queued', 'running', 'done', 'failed', 'cancelled'] }).notNull(),
    progress: real().notNull().default(0),
    message: text().notNull().default(''),
    result: text({ mode: 'json' }).$type<JobResult>(),
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

/** The datasets of earlier updates that an update counts beside its own, until the next update of its model. */
export const updateInputs = sqliteTable(
  'update_inputs',
  { updateId: text().notNull(), datasetSha256: text().notNull() },
  (table) => [primaryKey({ columns: [table.updateId, table.datasetSha256] })],
)

/**
 * The texts that one update calibrated a domain on; a text is in one batch of a model only. `counted` batches are in the
 * statistics that masks are selected from; `quarantined` ones belong to updates that were rolled back; `retired` ones no
 * longer count; `rebuilt` ones never count again, because an operator had the statistics of the domain made anew.
 */
export const batches = sqliteTable(
  'batches',
  {
    model: text().notNull(),
    datasetSha256: text().notNull(),
    updateId: text().notNull(),
    domain: text().notNull(),
    state: text({ enum: ['counted', 'quarantined', 'retired', 'rebuilt'] }).notNull(),
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
