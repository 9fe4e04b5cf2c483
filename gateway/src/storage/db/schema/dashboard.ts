/** Tables of the dashboard's sessions. Times are Unix milliseconds. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** The key that signed in. Both a session and a link end when that key is revoked, expires or is replaced. */
const signedIn = {
  /** Null: the admin key. */
  keyId: text(),
  /** The key's hash at that time, see `keys/session-key.ts`; the key has another after its rotation. */
  keyHash: text().notNull(),
  createdAt: integer().notNull(),
  expiresAt: integer().notNull(),
}

/** Sessions of the dashboard, never their cookies. */
export const dashboardSessions = sqliteTable(
  'dashboard_sessions',
  {
    /** HMAC-SHA256 of the cookie under the pepper, in hex. */
    hash: text().primaryKey(),
    ...signedIn,
    /** The last use, to some minutes. */
    seenAt: integer().notNull(),
  },
  (table) => [index('dashboard_sessions_expires').on(table.expiresAt)],
)

/** One-time links that open the dashboard signed in, never their codes. A used one is deleted. */
export const dashboardLinks = sqliteTable('dashboard_links', {
  /** HMAC-SHA256 of the code under the pepper, in hex. */
  hash: text().primaryKey(),
  ...signedIn,
})
