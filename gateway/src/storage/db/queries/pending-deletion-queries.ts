import { asc, eq } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { pendingDeletions } from '../schema/domains.ts'

/** A deletion of frozen texts that waits for the end of an update. */
export type PendingDeletion = typeof pendingDeletions.$inferSelect

/** Records a deletion that waits. */
export async function insertPendingDeletion(
  db: Database,
  deletion: typeof pendingDeletions.$inferInsert,
): Promise<void> {
  await db.insert(pendingDeletions).values(deletion)
}

/** Returns the oldest deletions that wait. */
export async function listPendingDeletions(db: Database, limit: number): Promise<PendingDeletion[]> {
  return db.select().from(pendingDeletions).orderBy(asc(pendingDeletions.id)).limit(limit)
}

/** Forgets a deletion that is done. */
export async function forgetPendingDeletion(db: Database, id: number): Promise<void> {
  await db.delete(pendingDeletions).where(eq(pendingDeletions.id, id))
}
