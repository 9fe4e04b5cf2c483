import { eq, ne, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { pendingDeletions } from '../schema/domains.ts'
import { isAmong } from './is-among.ts'

/** A deletion in one domain that waits for the end of an update, or for its turn. */
export type PendingDeletion = typeof pendingDeletions.$inferSelect

/** `doneUntil` of a deletion that has not deleted the samples of its domain yet. */
export const SAMPLES_LEFT = 'samples left'

/** The row of a deletion that begins to wait. */
export type NewPendingDeletion = typeof pendingDeletions.$inferInsert

/** Records any number of deletions that wait, in one statement. */
export async function insertPendingDeletions(
  db: Database,
  deletions: readonly NewPendingDeletion[],
): Promise<void> {
  if (deletions.length === 0) return
  await db.insert(pendingDeletions).select(
    sql`select null, value->>'domain', value->>'keyId', value->>'tenant', value->>'requestId',
          coalesce(value->>'doneUntil', ''), value->>'createdAt'
        from json_each(${JSON.stringify(deletions)}) where true`,
  )
}

/** Records that deletions have deleted the samples of their domains, which is also when they count as begun. */
export async function setSamplesDeleted(
  db: Database,
  ids: readonly number[],
  createdAt: number,
): Promise<void> {
  await db.update(pendingDeletions).set({ doneUntil: '', createdAt }).where(isAmong(pendingDeletions.id, ids))
}

/** Records up to which dataset a deletion that waits has looked. */
export async function setDoneUntil(db: Database, id: number, doneUntil: string): Promise<void> {
  await db.update(pendingDeletions).set({ doneUntil }).where(eq(pendingDeletions.id, id))
}

/**
 * Returns deletions that have deleted the samples of their domains, in random order, so that those that wait for an update hold up no
 * others.
 */
export async function listPendingDeletions(db: Database, limit: number): Promise<PendingDeletion[]> {
  return db
    .select()
    .from(pendingDeletions)
    .where(ne(pendingDeletions.doneUntil, SAMPLES_LEFT))
    .orderBy(sql`random()`)
    .limit(limit)
}

/** Returns deletions that have not deleted the samples of their domains yet, in random order as {@link listPendingDeletions} does. */
export async function listUnbegunDeletions(db: Database, limit: number): Promise<PendingDeletion[]> {
  return db
    .select()
    .from(pendingDeletions)
    .where(eq(pendingDeletions.doneUntil, SAMPLES_LEFT))
    .orderBy(sql`random()`)
    .limit(limit)
}

/** Forgets a deletion that is done. */
export async function forgetPendingDeletion(db: Database, id: number): Promise<void> {
  await db.delete(pendingDeletions).where(eq(pendingDeletions.id, id))
}
