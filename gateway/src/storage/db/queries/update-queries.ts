import { and, desc, eq, isNull, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { updates } from '../schema.ts'

/** A COPAL update as stored. */
export type UpdateRow = typeof updates.$inferSelect

/**
 * Stores a new update unless another update of its model is running.
 *
 * @returns the other running update, or undefined
 */
export async function insertUpdate(
  db: Database,
  update: typeof updates.$inferInsert,
): Promise<UpdateRow | undefined> {
  const [, running] = await db.batch([
    db.insert(updates).values(update).onConflictDoNothing(),
    db
      .select()
      .from(updates)
      .where(and(eq(updates.model, update.model), isNull(updates.finishedAt))),
  ])
  return running.find(({ id }) => id !== update.id)
}

/** Returns one update. */
export async function findUpdate(db: Database, id: string): Promise<UpdateRow | undefined> {
  return db.select().from(updates).where(eq(updates.id, id)).get()
}

/** Returns the update that made a mask or is making it. */
export async function findUpdateOfMask(
  db: Database,
  model: string,
  version: number,
): Promise<UpdateRow | undefined> {
  return db
    .select()
    .from(updates)
    .where(and(eq(updates.model, model), eq(updates.maskVersion, version)))
    .get()
}

/** Returns the latest updates, newest first. */
export async function listUpdates(db: Database, limit: number): Promise<UpdateRow[]> {
  return db
    .select()
    .from(updates)
    .orderBy(desc(updates.createdAt), desc(sql`rowid`))
    .limit(limit)
}

/** Returns the running updates of one model, or of all. */
export async function listRunningUpdates(db: Database, onlyModel?: string): Promise<UpdateRow[]> {
  return db
    .select()
    .from(updates)
    .where(
      and(isNull(updates.finishedAt), onlyModel === undefined ? undefined : eq(updates.model, onlyModel)),
    )
}

/** The columns that a transition may change. */
export type UpdatePatch = Partial<
  Pick<
    UpdateRow,
    | 'state'
    | 'datasets'
    | 'parentVersion'
    | 'maskVersion'
    | 'candidate'
    | 'weights'
    | 'errorCode'
    | 'errorMessage'
    | 'finishedAt'
  >
>

/**
 * Changes an update by compare-and-set.
 *
 * @returns false if it has another revision
 */
export async function changeUpdate(
  db: Database,
  update: Pick<UpdateRow, 'id' | 'revision'>,
  patch: UpdatePatch,
): Promise<boolean> {
  const result = await db
    .update(updates)
    .set({ ...patch, revision: update.revision + 1 })
    .where(and(eq(updates.id, update.id), eq(updates.revision, update.revision)))
  return result.meta.changes === 1
}
