import { desc } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { audit } from '../schema/audit.ts'

/** A row of the audit log. */
export type AuditRow = typeof audit.$inferSelect

/** Returns the newest row; undefined if there is none. */
export async function findLastAuditRow(db: Database): Promise<AuditRow | undefined> {
  return db.select().from(audit).orderBy(desc(audit.id)).limit(1).get()
}

/**
 * Appends a row.
 *
 * @returns false if another row has its number already
 */
export async function insertAuditRow(db: Database, row: AuditRow): Promise<boolean> {
  const inserted = await db.insert(audit).values(row).onConflictDoNothing().returning({ id: audit.id }).get()
  return inserted !== undefined
}
