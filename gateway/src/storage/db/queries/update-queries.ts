import { and, desc, eq, isNotNull, isNull, sql, type SQL } from 'drizzle-orm'
import type { BatchItem } from 'drizzle-orm/batch'
import type { Database } from '../../../contracts/database.ts'
import { datasets } from '../schema/domains.ts'
import { decisions } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'

/** A COPAL update as stored. */
export type UpdateRow = typeof updates.$inferSelect

/**
 * Stores a new update unless another update of its model is running.
 *
 * @param decision stored in the same transaction if the update is
 * @returns the other running update, or undefined
 */
export async function insertUpdate(
  db: Database,
  update: typeof updates.$inferInsert,
  decision?: DecisionOfUpdate & { createdAt: number },
): Promise<UpdateRow | undefined> {
  const { id, model } = update
  const [running] = await db.batch([
    db
      .select()
      .from(updates)
      .where(and(eq(updates.model, model), isNull(updates.finishedAt))),
    db.insert(updates).values(update).onConflictDoNothing(),
    ...(decision ? [insertDecisionOf(db, { id, model, revision: 0, maskVersion: null }, decision)] : []),
  ])
  return running.find((other) => other.id !== id)
}

/** Returns one update. */
export async function findUpdate(db: Database, id: string): Promise<UpdateRow | undefined> {
  return db.select().from(updates).where(eq(updates.id, id)).get()
}

/** Returns the last update that made a mask or evaluated it. */
export async function findUpdateOfMask(
  db: Database,
  model: string,
  version: number,
): Promise<UpdateRow | undefined> {
  return (
    db
      .select()
      .from(updates)
      .where(and(eq(updates.model, model), eq(updates.maskVersion, version)))
      // An imported mask may be evaluated by several updates.
      .orderBy(desc(updates.createdAt), desc(sql`rowid`))
      .limit(1)
      .get()
  )
}

/** Returns the latest updates, newest first. */
export async function listUpdates(db: Database, limit: number): Promise<UpdateRow[]> {
  return db
    .select()
    .from(updates)
    .orderBy(desc(updates.createdAt), desc(sql`rowid`))
    .limit(limit)
}

/** Returns the ended updates of a model from before another one, newest first, at most 1,000. */
export async function listUpdatesBefore(
  db: Database,
  { id, model }: Pick<UpdateRow, 'id' | 'model'>,
): Promise<UpdateRow[]> {
  const place = sql`(${updates.createdAt}, "updates".rowid)`
  const before = sql`${place} < (select created_at, rowid from ${updates} own where own.id = ${id})`
  return db
    .select()
    .from(updates)
    .where(and(eq(updates.model, model), isNotNull(updates.finishedAt), before))
    .orderBy(desc(updates.createdAt), desc(sql`rowid`))
    .limit(1_000)
}

/** Returns the last update of a model. */
export async function findLastUpdate(db: Database, model: string): Promise<UpdateRow | undefined> {
  return db
    .select()
    .from(updates)
    .where(eq(updates.model, model))
    .orderBy(desc(updates.createdAt), desc(sql`rowid`))
    .limit(1)
    .get()
}

/** Returns the running updates of a model and the one that ended last, newest first. */
export async function listCurrentUpdates(db: Database, model: string): Promise<UpdateRow[]> {
  const ended = await db
    .select()
    .from(updates)
    .where(and(eq(updates.model, model), isNotNull(updates.finishedAt)))
    .orderBy(desc(updates.createdAt), desc(sql`rowid`))
    .limit(1)
  return [...(await listRunningUpdates(db, model)), ...ended]
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

/** Records that a live node serves the mask of an update, and returns since when one does. */
export async function noteServed(db: Database, id: string, nowMs: number): Promise<number> {
  const [row] = await db
    .update(updates)
    .set({ servedSince: sql`coalesce(${updates.servedSince}, ${nowMs})` })
    .where(eq(updates.id, id))
    .returning({ servedSince: updates.servedSince })
  return row?.servedSince ?? nowMs
}

/**
 * Records that an update has frozen a dataset, so that a later call need not do it again. It is no transition, so the update keeps
 * its revision; if it has another one by now, nothing is recorded. Nor is a second dataset of a domain, as of two calls between which a
 * text was deleted.
 *
 * @returns the dataset of the domain that the update goes on with: the recorded one
 */
export async function noteDataset(
  db: Database,
  { id, revision }: Pick<UpdateRow, 'id' | 'revision'>,
  { sha256, domain }: Pick<typeof datasets.$inferSelect, 'sha256' | 'domain'>,
): Promise<string> {
  const known = sql`coalesce(${updates.datasets}, '[]')`
  const unchanged = isUnchanged({ id, revision })
  const ofDomain = sql`from json_each(${known}) join ${datasets} on ${datasets.sha256} = value where ${datasets.domain} = ${domain}`
  const written = await db
    .update(updates)
    .set({ datasets: sql`json_insert(${known}, '$[#]', ${sha256})` })
    .where(and(unchanged, sql`not exists (select 1 ${ofDomain})`))
    .returning({ id: updates.id })
  if (written.length > 0) return sha256
  const [recorded] = await db
    .select({ sha256: sql<string | null>`(select ${datasets.sha256} ${ofDomain} limit 1)` })
    .from(updates)
    .where(unchanged)
  return recorded?.sha256 ?? sha256
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
    | 'stateSince'
    | 'finishedAt'
  >
>

/** A decision about the mask of an update. */
export type DecisionOfUpdate = Pick<
  typeof decisions.$inferInsert,
  'kind' | 'verdict' | 'reason' | 'figures' | 'actor'
>

/**
 * Changes an update by compare-and-set.
 *
 * @param decision stored in the same transaction, with the mask that the update has before the change
 * @param before statements that run before in the same transaction, which must change nothing if the update has another revision
 * @returns the update afterwards; undefined if it has another revision: then nothing is stored
 */
export async function changeUpdate(
  db: Database,
  update: Pick<UpdateRow, 'id' | 'model' | 'revision' | 'maskVersion'>,
  patch: UpdatePatch,
  decision?: DecisionOfUpdate & { createdAt: number },
  before: readonly BatchItem<'sqlite'>[] = [],
): Promise<UpdateRow | undefined> {
  const { id, model, revision, maskVersion } = update
  const [first, ...rest] = [
    ...before,
    ...(decision ? [insertDecisionOf(db, { id, model, revision, maskVersion }, decision)] : []),
    db
      .update(updates)
      .set({ ...patch, revision: revision + 1 })
      .where(isUnchanged(update))
      .returning(),
  ]
  const [changed] = (await db.batch([first, ...rest])).at(-1) as UpdateRow[]
  return changed
}

/** The condition that an update has the revision with which it was read. */
export function isUnchanged({ id, revision }: Pick<UpdateRow, 'id' | 'revision'>): SQL | undefined {
  return and(eq(updates.id, id), eq(updates.revision, revision))
}

/** Returns the statement that stores a decision about an update, unless the update has changed. */
function insertDecisionOf(
  db: Database,
  { id, model, revision, maskVersion }: Pick<UpdateRow, 'id' | 'model' | 'revision' | 'maskVersion'>,
  decision: DecisionOfUpdate & { createdAt: number },
) {
  const { kind, verdict, reason, figures = [], actor, createdAt } = decision
  const row = sql`select null, ${model}, ${id}, ${maskVersion}, ${kind}, ${verdict}, ${reason}, ${JSON.stringify(figures)}, ${actor}, ${createdAt}
    where exists (select 1 from ${updates} where ${isUnchanged({ id, revision })})`
  return db.insert(decisions).select(row)
}
