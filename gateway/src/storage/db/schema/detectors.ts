/** Tables of drift detectors, scores of the probe texts, and alerts. Times are Unix milliseconds. */
import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, real, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import type { DetectorState, DriftSignalName } from '../../../contracts/detector-state.ts'

/** How far the detectors of each model have read the receipts: up to, and without, `throughMs`. */
export const detectorCursors = sqliteTable('detector_cursors', {
  model: text().primaryKey(),
  throughMs: integer().notNull(),
})

/** The detectors of each domain. Those of `dense` are of no mask and have version 0; those of `gap` are of one mask each. */
export const detectorStates = sqliteTable(
  'detector_states',
  {
    model: text().notNull(),
    domain: text().notNull(),
    maskVersion: integer().notNull(),
    signal: text().$type<DriftSignalName>().notNull(),
    /** Scored requests that it has read. */
    requests: integer().notNull(),
    state: text({ mode: 'json' }).$type<DetectorState>().notNull(),
    updatedAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.domain, table.maskVersion, table.signal] })],
)

/** Alerts of detectors and probe texts. One of a kind and subject holds at a time. */
export const alerts = sqliteTable(
  'alerts',
  {
    id: text().primaryKey(),
    kind: text().$type<AlertKind>().notNull(),
    model: text().notNull(),
    /** The subject as one text: a domain, a domain and a mask, or a node and a mask, by the kind. */
    subject: text().notNull(),
    domain: text(),
    maskVersion: integer(),
    nodeId: text(),
    message: text().notNull(),
    /** Mean of the signal before the change, and after it, nats a token. */
    reference: real().notNull(),
    level: real().notNull(),
    raisedAt: integer().notNull(),
    endedAt: integer(),
  },
  (table) => [
    uniqueIndex('alerts_holding')
      .on(table.model, table.kind, table.subject)
      .where(sql`ended_at is null`),
    index('alerts_model').on(table.model, table.raisedAt),
  ],
)

/** The newest score of the probe texts on each node under each mask, and the first one of its process. */
export const probeScores = sqliteTable(
  'probe_scores',
  {
    model: text().notNull(),
    maskVersion: integer().notNull(),
    nodeId: text().notNull(),
    /** The process of the node that measured it; empty for nodes that name none. */
    process: text().notNull(),
    tokens: integer().notNull(),
    /** Mean loss, nats a token. */
    nll: real().notNull(),
    /** The first score of the same process, with the same number of tokens. */
    firstNll: real().notNull(),
    measuredAt: integer().notNull(),
    /** Scores in a row that did not match. */
    mismatches: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.model, table.maskVersion, table.nodeId] })],
)
