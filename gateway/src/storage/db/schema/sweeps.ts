/** Tables of the tasks that sweep R2. */
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** Where the sweep of files with a prefix goes on, if its last run had too few calls for all of them. */
export const sweepPlaces = sqliteTable('sweep_places', {
  prefix: text().primaryKey(),
  /** The key of the last file that was looked at. */
  after: text().notNull(),
})

/** Files that are stored, or deleted by a sweep: each by one at a time. */
export const fileClaims = sqliteTable('file_claims', {
  key: text().primaryKey(),
  claimedAt: integer().notNull(),
  /** Whether a sweep deletes the file; otherwise it was stored at that time, or is being stored. */
  isDeleting: integer({ mode: 'boolean' }).notNull(),
})
