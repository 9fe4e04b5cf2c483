/** The audit log. Times are Unix milliseconds. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** The columns of an action: what was done, by whom and why. */
const entry = {
  /** `operator`, the id of an admin key, a node as `node:<id>`, or `copal` for the service itself. */
  actor: text().notNull(),
  /** A verb phrase like `key.create` or `mask.promote`. */
  action: text().notNull(),
  /** The thing that it changed, like a key's id or a model and mask version. */
  target: text().notNull(),
  /** JSON of what changed, before and after; null where there is nothing. Never a secret or a text of a client. */
  before: text({ mode: 'json' }).$type<unknown>(),
  after: text({ mode: 'json' }).$type<unknown>(),
  reason: text().notNull().default(''),
  requestId: text(),
  createdAt: integer().notNull(),
}

/**
 * Every decision and admin action, in order. Triggers of the database refuse to change rows, and to delete rows that no
 * checkpoint covers. Each row's hash covers its fields and the hash of the row before, so that a changed or missing row is
 * noticed.
 */
export const audit = sqliteTable(
  'audit',
  {
    /** 1, 2, 3, … without gaps. */
    id: integer().primaryKey(),
    ...entry,
    /** Hash of the row before, or 64 zeros. */
    previousHash: text().notNull(),
    /** SHA-256 of the fields above, in hex; anybody can check it. */
    hash: text().notNull(),
    /** HMAC of the hash with a key that only the gateway has; '' in rows that are older than this column. */
    seal: text().notNull().default(''),
  },
  (table) => [
    index('audit_created').on(table.createdAt),
    index('audit_target').on(table.target, table.id),
    index('audit_actor').on(table.actor, table.id),
  ],
)

/**
 * Entries that the log has not numbered yet. An action is written here before it is done, a decision by a trigger in the statement that
 * stores it, so that neither happens without a record.
 */
export const auditPending = sqliteTable('audit_pending', {
  id: integer().primaryKey({ autoIncrement: true }),
  ...entry,
  /** False while the action runs. */
  settled: integer({ mode: 'boolean' }).notNull(),
})

/** The last row of each deletion by retention: with its hash the rows after it can still be verified. */
export const auditCheckpoints = sqliteTable('audit_checkpoints', {
  /** Number of the last deleted row. */
  id: integer().primaryKey(),
  hash: text().notNull(),
  seal: text().notNull(),
  createdAt: integer().notNull(),
})
