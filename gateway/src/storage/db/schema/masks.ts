/** Tables of models, their masks, and what the masks are judged by. Times are Unix milliseconds. */
import type { DecisionFigure, DecisionKind, DecisionVerdict } from '@copal/shared/wire/admin-decisions.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { sql } from 'drizzle-orm'
import {
  customType,
  index,
  integer,
  primaryKey,
  real,
  sqliteTable,
  text,
  uniqueIndex,
} from 'drizzle-orm/sqlite-core'
import type { StoredTrial, StoredWatch } from '../../../contracts/trial.ts'

/** JSON of versions by domain. Read as a map, because a domain may be called `constructor`, which every object has. */
const versionsByDomain = customType<{ data: ReadonlyMap<string, number>; driverData: string }>({
  dataType: () => 'text',
  fromDriver: (json) => new Map(Object.entries(JSON.parse(json) as Record<string, number>)),
  toDriver: (versions) => JSON.stringify(Object.fromEntries(versions)),
})

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
  /** Versions of masks that serve single domains instead of the active one, by domain. */
  domainVersions: versionsByDomain()
    .notNull()
    .default(sql`'{}'`),
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
    /** Kept by an operator, however old and unused it is. */
    pinned: integer({ mode: 'boolean' }).notNull().default(false),
    /** Since when its file is to be deleted, a day later, because nothing needs it; null while the file is kept. */
    sweptAt: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.model, table.version] }),
    uniqueIndex('masks_update').on(table.updateId, table.candidate),
    index('masks_sha256').on(table.sha256),
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
    /** The numerics of the weights that were measured; null for evaluations that are older than this column, and by older nodes. */
    numerics: text(),
    createdAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.version, table.domain, table.holdoutSha256] })],
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
    kind: text().$type<DecisionKind>().notNull(),
    verdict: text().$type<DecisionVerdict>().notNull(),
    reason: text().notNull(),
    figures: text({ mode: 'json' }).$type<DecisionFigure[]>().notNull().default([]),
    /** The admin key's id, or `copal` for decisions of the service itself. */
    actor: text().notNull(),
    createdAt: integer().notNull(),
  },
  (table) => [
    index('decisions_update').on(table.updateId),
    index('decisions_model').on(table.model, table.createdAt),
    index('decisions_kind').on(table.model, table.kind, table.createdAt),
  ],
)
