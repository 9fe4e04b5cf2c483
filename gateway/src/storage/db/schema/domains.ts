/** Tables of domains and their texts: frozen datasets, holdouts and deletions. Times are Unix milliseconds. */
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import type { ReservoirCounts } from '../../../contracts/reservoir-counts.ts'

/** The name under which the operator's fixed holdout stands beside those of domains; no domain can have it. */
export const GENERAL_HOLDOUT = '(general)'

/** The name of the reservoir of texts that fit into no domain yet; no domain can have it. */
export const UNASSIGNED = '(unassigned)'

/** Domains that were sampled or created; their held-out texts are in `holdouts`. */
export const domains = sqliteTable(
  'domains',
  {
    name: text().primaryKey(),
    createdAt: integer().notNull(),
    /** The tenant whose sample created it; null if an operator created it, or if it is older than this column. */
    createdBy: text(),
    /** The tenant that alone may use it; null: all tenants share it. */
    owner: text(),
  },
  // Each isolate of the Worker reads the owned domains twice a minute.
  (table) => [
    index('domains_owned')
      .on(table.name, table.owner)
      .where(sql`${table.owner} is not null`),
  ],
)

/**
 * The latest counts of each domain's reservoir, which stores them at most a minute after a change. A domain without a row was not
 * counted yet.
 */
export const reservoirCounts = sqliteTable('reservoir_counts', {
  domain: text().primaryKey(),
  samples: integer().notNull(),
  characters: integer().notNull(),
  seen: integer().notNull(),
  holdoutSamples: integer().notNull(),
  holdoutCharacters: integer().notNull(),
  reviewSamples: integer().notNull(),
  lastSampleAtMs: integer(),
  models: text({ mode: 'json' }).$type<ReservoirCounts['models']>().notNull(),
  examples: text({ mode: 'json' }).$type<ReservoirCounts['examples']>().notNull(),
  countedAtMs: integer().notNull(),
})

/**
 * Domains that were found in texts without a domain, until an operator or the policy accepts or discards them. Their texts
 * wait in the reservoir of `(unassigned)`.
 */
export const domainProposals = sqliteTable(
  'domain_proposals',
  {
    id: text().primaryKey(),
    model: text().notNull(),
    /** The suggested name, from the terms. */
    name: text().notNull(),
    terms: text({ mode: 'json' }).$type<string[]>().notNull(),
    texts: integer().notNull(),
    characters: integer().notNull(),
    /** The dense embedding's centroid, by which texts of the cluster are recognized. */
    centroid: text({ mode: 'json' }).$type<number[]>().notNull(),
    state: text({ enum: ['proposed', 'accepted', 'discarded', 'merged'] }).notNull(),
    /** The domain that it became or was merged into. */
    domain: text(),
    createdAt: integer().notNull(),
    updatedAt: integer().notNull(),
  },
  (table) => [index('domain_proposals_state').on(table.model, table.state)],
)

/** Versions of the classifier of each model, which sorts texts into domains; the R2 object `classifiers/<sha256>`. */
export const classifiers = sqliteTable(
  'classifiers',
  {
    model: text().notNull(),
    version: integer().notNull(),
    sha256: text().notNull(),
    /** The domains that it knows, sorted. */
    domains: text({ mode: 'json' }).$type<string[]>().notNull(),
    texts: integer().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.version] })],
)

/** Frozen calibration datasets; each is the R2 object `datasets/<sha256>`, newline-delimited JSON. */
export const datasets = sqliteTable('datasets', {
  sha256: text().primaryKey(),
  domain: text().notNull(),
  samples: integer().notNull(),
  bytes: integer().notNull(),
  createdAt: integer().notNull(),
  /** When its texts were deleted because of their age; its statistics alone remain. Null while they are stored. */
  expiredAt: integer(),
})

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

/** Deletions of texts of a domain that wait for the end of an update, which may read them, or for their turn. */
export const pendingDeletions = sqliteTable('pending_deletions', {
  id: integer().primaryKey({ autoIncrement: true }),
  domain: text().notNull(),
  keyId: text(),
  tenant: text(),
  requestId: text(),
  /**
   * The last dataset, in the order of their hashes, that was looked through; empty before the first; `SAMPLES_LEFT` before the
   * samples are deleted; `SAMPLES_BEGUN` and `FROZEN_BEGUN` while the cron task deletes them or frozen texts; `REQUEST_RUNNING` while a
   * request does.
   */
  doneUntil: text().notNull().default(''),
  createdAt: integer().notNull(),
})

/** Deletions of samples. Queued samples that are older and match every given column are not stored. */
export const tombstones = sqliteTable(
  'tombstones',
  {
    id: integer().primaryKey({ autoIncrement: true }),
    domain: text(),
    keyId: text(),
    tenant: text(),
    requestId: text(),
    createdAt: integer().notNull(),
  },
  // Every batch of queued samples looks for those since its oldest one.
  (table) => [index('tombstones_created').on(table.createdAt)],
)
