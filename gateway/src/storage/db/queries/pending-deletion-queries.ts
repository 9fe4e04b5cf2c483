import { and, eq, inArray, lt, ne, not, notInArray, or, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { pendingDeletions } from '../schema/domains.ts'
import { isAmong } from './is-among.ts'

/** A deletion in one domain that waits for the end of an update, or for its turn. */
export type PendingDeletion = typeof pendingDeletions.$inferSelect

/** `doneUntil` of a deletion that has not deleted the samples of its domain yet. */
export const SAMPLES_LEFT = 'samples left'

/**
 * `doneUntil` of a deletion whose samples the cron task deletes, or was deleting when it failed: then some may be deleted that the
 * audit log does not count.
 */
export const SAMPLES_BEGUN = 'samples begun'

/**
 * `doneUntil` of a deletion whose frozen texts the cron task deletes, or was deleting when it failed: then some may be deleted that the
 * audit log does not count. It looks through all datasets again.
 */
export const FROZEN_BEGUN = 'frozen texts begun'

/** `doneUntil` of a deletion that a request is carrying out, or that it left when it failed. */
export const REQUEST_RUNNING = 'request running'

/** Time after which a request has failed that has not recorded what it left. */
const ABANDONED_MS = 15 * 60_000

/** The condition of deletions of whole domains: they name nobody whose texts are deleted. */
const IS_OF_DOMAIN = sql`(coalesce(${pendingDeletions.keyId}, ${pendingDeletions.tenant}, ${pendingDeletions.requestId}) is null)`

/** The row of a deletion that begins to wait. */
export type NewPendingDeletion = typeof pendingDeletions.$inferInsert

/**
 * Records any number of deletions that wait, in one statement.
 *
 * @returns their ids by domain
 */
export async function insertPendingDeletions(
  db: Database,
  deletions: readonly NewPendingDeletion[],
): Promise<Map<string, number>> {
  if (deletions.length === 0) return new Map()
  const rows = await db
    .insert(pendingDeletions)
    .select(
      sql`select null, value->>'domain', value->>'keyId', value->>'tenant', value->>'requestId',
          coalesce(value->>'doneUntil', ''), value->>'createdAt'
        from json_each(${JSON.stringify(deletions)}) where true`,
    )
    .returning({ id: pendingDeletions.id, domain: pendingDeletions.domain })
  return new Map(rows.map(({ id, domain }) => [domain, id]))
}

/**
 * Records what a request has left of its deletions: it forgets those that are done, and sets how far the others are. Those that
 * the cron task has taken over meanwhile stay as they are.
 *
 * @param ids of {@link insertPendingDeletions}
 * @param left `doneUntil` by domain
 */
export async function settlePendingDeletions(
  db: Database,
  ids: ReadonlyMap<string, number>,
  left: ReadonlyMap<string, string>,
  createdAt: number,
): Promise<void> {
  const idsBy = Map.groupBy(ids, ([domain]) => left.get(domain))
  const isOwn = (some: readonly (readonly [string, number])[]) =>
    and(
      eq(pendingDeletions.doneUntil, REQUEST_RUNNING),
      isAmong(
        pendingDeletions.id,
        some.map(([, id]) => id),
      ),
    )
  for (const [doneUntil, some] of idsBy)
    if (doneUntil === undefined) await db.delete(pendingDeletions).where(isOwn(some))
    else await db.update(pendingDeletions).set({ doneUntil, createdAt }).where(isOwn(some))
}

/** Records that deletions have deleted the samples of their domains, which is also when they count as begun. */
export async function setSamplesDeleted(
  db: Database,
  ids: readonly number[],
  createdAt: number,
): Promise<void> {
  await db.update(pendingDeletions).set({ doneUntil: '', createdAt }).where(isAmong(pendingDeletions.id, ids))
}

/** Records up to which dataset a deletion that waits has looked, or that its samples or frozen texts are being deleted. */
export async function setDoneUntil(db: Database, id: number, doneUntil: string): Promise<void> {
  await db.update(pendingDeletions).set({ doneUntil }).where(eq(pendingDeletions.id, id))
}

/**
 * Returns deletions of texts that have deleted the samples of their domains, in random order, so that those that wait for an update do
 * not delay others.
 */
export async function listPendingDeletions(db: Database, limit: number): Promise<PendingDeletion[]> {
  return db
    .select()
    .from(pendingDeletions)
    .where(
      and(
        not(IS_OF_DOMAIN),
        notInArray(pendingDeletions.doneUntil, [SAMPLES_LEFT, SAMPLES_BEGUN, REQUEST_RUNNING]),
      ),
    )
    .orderBy(sql`random()`)
    .limit(limit)
}

/**
 * Returns deletions of texts that have not deleted the samples of their domains yet, and those of requests that failed, in random order
 * as {@link listPendingDeletions} does.
 */
export async function listUnbegunDeletions(
  db: Database,
  limit: number,
  nowMs: number,
): Promise<PendingDeletion[]> {
  const isUnbegun = inArray(pendingDeletions.doneUntil, [SAMPLES_LEFT, SAMPLES_BEGUN])
  return db
    .select()
    .from(pendingDeletions)
    .where(and(not(IS_OF_DOMAIN), or(isUnbegun, isAbandoned(nowMs))))
    .orderBy(sql`random()`)
    .limit(limit)
}

/** Returns deletions of whole domains that a request has left, in random order as {@link listPendingDeletions} does. */
export async function listDomainDeletions(
  db: Database,
  limit: number,
  nowMs: number,
): Promise<PendingDeletion[]> {
  const isLeft = or(ne(pendingDeletions.doneUntil, REQUEST_RUNNING), isAbandoned(nowMs))
  return db
    .select()
    .from(pendingDeletions)
    .where(and(IS_OF_DOMAIN, isLeft))
    .orderBy(sql`random()`)
    .limit(limit)
}

/** Returns whether a deletion of a whole domain has begun and not ended. */
export async function isBeingDeleted(db: Database, domain: string): Promise<boolean> {
  return (await db.$count(pendingDeletions, and(eq(pendingDeletions.domain, domain), IS_OF_DOMAIN))) > 0
}

function isAbandoned(nowMs: number) {
  return and(
    eq(pendingDeletions.doneUntil, REQUEST_RUNNING),
    lt(pendingDeletions.createdAt, nowMs - ABANDONED_MS),
  )
}

/** Forgets a deletion that is done. */
export async function forgetPendingDeletion(db: Database, id: number): Promise<void> {
  await db.delete(pendingDeletions).where(eq(pendingDeletions.id, id))
}
