import { asc, eq } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { pendingDeletions } from '../schema/domains.ts'

/** A deletion of frozen texts that waits for the end of an update. */
export type PendingDeletion = typeof pendingDeletions.$inferSelect

/** The row of a deletion that begins to wait. */
export type NewPendingDeletion = typeof pendingDeletions.$inferInsert

/** Records deletions that wait, in one transaction. */
export async function insertPendingDeletions(
  db: Database,
  deletions: readonly NewPendingDeletion[],
): Promise<void> {
  const [first, ...others] = deletions.map((deletion) => db.insert(pendingDeletions).values(deletion))
  if (first) await db.batch([first, ...others])
}

/** Records up to which dataset a deletion that waits has looked. */
export async function setDoneUntil(db: Database, id: number, doneUntil: string): Promise<void> {
  await db.update(pendingDeletions).set({ doneUntil }).where(eq(pendingDeletions.id, id))
}

/** Returns the oldest deletions that wait. */
export async function listPendingDeletions(db: Database, limit: number): Promise<PendingDeletion[]> {
  return db.select().from(pendingDeletions).orderBy(asc(pendingDeletions.id)).limit(limit)
}

/** Forgets a deletion that is done. */
export async function forgetPendingDeletion(db: Database, id: number): Promise<void> {
  await db.delete(pendingDeletions).where(eq(pendingDeletions.id, id))
}
