/** The audit log. Times are Unix milliseconds. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/**
 * Every decision and admin action, in order; rows are only appended. Each row's hash covers its fields and the hash of the row
 * before, so that a changed or missing row is noticed.
 */
export const audit = sqliteTable(
  'audit',
  {
    /** 1, 2, 3, … without gaps. */
    id: integer().primaryKey(),
    /** `operator`, the id of an admin key, a node as `node:<id>`, or `copal` for the service itself. */
    actor: text().notNull(),
    /** A verb phrase like `key.create` or `mask.promote`. */
    action: text().notNull(),
    /** What it was done to, like a key's id or a model and mask version. */
    target: text().notNull(),
    /** JSON of what changed, before and after; null where there is nothing. Never a secret or a text of a client. */
    before: text({ mode: 'json' }).$type<unknown>(),
    after: text({ mode: 'json' }).$type<unknown>(),
    reason: text().notNull().default(''),
    requestId: text(),
    createdAt: integer().notNull(),
    /** SHA-256 of the row before, or 64 zeros. */
    previousHash: text().notNull(),
    hash: text().notNull(),
  },
  (table) => [
    index('audit_created').on(table.createdAt),
    index('audit_target').on(table.target, table.id),
    index('audit_actor').on(table.actor, table.id),
  ],
)
