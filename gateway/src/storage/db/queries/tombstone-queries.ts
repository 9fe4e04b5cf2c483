import { gte, lt } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { tombstones } from '../schema/domains.ts'

/** A deletion of samples; fields that are null match every sample. */
export type TombstoneRow = typeof tombstones.$inferSelect

/** Records a deletion of samples. */
export async function insertTombstone(
  db: Database,
  tombstone: typeof tombstones.$inferInsert,
): Promise<void> {
  await db.insert(tombstones).values(tombstone)
}

/** Returns the deletions since a time. */
export async function listTombstones(db: Database, sinceMs: number): Promise<TombstoneRow[]> {
  return db.select().from(tombstones).where(gte(tombstones.createdAt, sinceMs))
}

/** Deletes the records of deletions from before a time. */
export async function deleteTombstones(db: Database, beforeMs: number): Promise<void> {
  await db.delete(tombstones).where(lt(tombstones.createdAt, beforeMs))
}
