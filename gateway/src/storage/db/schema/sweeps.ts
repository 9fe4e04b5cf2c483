/** Tables of the tasks that sweep R2. */
import { sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** Where the sweep of files with a prefix goes on, if its last run had too few calls for all of them. */
export const sweepPlaces = sqliteTable('sweep_places', {
  prefix: text().primaryKey(),
  /** The key of the last file that was looked at. */
  after: text().notNull(),
})
