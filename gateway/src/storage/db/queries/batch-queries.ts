import { and, asc, count, desc, eq, isNull, ne, not, notExists, or, sql, type SQL } from 'drizzle-orm'
import { alias } from 'drizzle-orm/sqlite-core'
import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { datasets } from '../schema/domains.ts'
import { batches, jobs, updates } from '../schema/updates.ts'
import { datasetRefOf } from './dataset-queries.ts'
import { isAmong } from './is-among.ts'

/** The texts that one update calibrated a domain on, as stored. */
export type BatchRow = typeof batches.$inferSelect

/** Returns the datasets in a model's statistics, oldest first. A dataset that two updates have in common is listed once. */
export async function listCounted(db: Database, model: string): Promise<DatasetRef[]> {
  const { sha256, domain, samples, bytes, createdAt, expiredAt } = datasets
  const rows = await db
    .selectDistinct({ sha256, domain, samples, bytes, createdAt, expiredAt })
    .from(batches)
    .innerJoin(datasets, eq(datasets.sha256, batches.datasetSha256))
    .where(and(eq(batches.model, model), eq(batches.state, 'counted')))
    .orderBy(asc(createdAt), asc(sha256))
  return rows.map(datasetRefOf)
}

/** Returns the domains of which a model has statistics. */
export async function listCountedDomains(db: Database, model: string): Promise<Set<string>> {
  const rows = await db
    .selectDistinct({ domain: batches.domain })
    .from(batches)
    .where(and(eq(batches.model, model), eq(batches.state, 'counted')))
  return new Set(rows.map(({ domain }) => domain))
}

/** Counts the datasets of each domain that are in the statistics of any model. */
export async function countCalibratedDatasets(db: Database): Promise<Map<string, number>> {
  const rows = await db
    .select({ domain: batches.domain, datasets: count() })
    .from(batches)
    .where(eq(batches.state, 'counted'))
    .groupBy(batches.domain)
  return new Map(rows.map(({ domain, datasets: total }) => [domain, total]))
}

/** Returns those of some updates that have batches, by their ids. */
export async function findUpdatesInBatches(db: Database, updateIds: readonly string[]): Promise<Set<string>> {
  if (updateIds.length === 0) return new Set()
  const rows = await db
    .selectDistinct({ id: batches.updateId })
    .from(batches)
    .where(isAmong(batches.updateId, updateIds))
  return new Set(rows.map(({ id }) => id))
}

/** Returns the batches of some domains whose texts the reservoirs do not know yet, of any model. */
export async function listUnmarkedBatches(db: Database, names: readonly string[]): Promise<BatchRow[]> {
  return db
    .select()
    .from(batches)
    .where(and(isAmong(batches.domain, names), eq(batches.marked, false)))
}

/** Returns whether a dataset counts in the statistics of a model. */
export async function isCounted(db: Database, datasetSha256: string): Promise<boolean> {
  const row = await db
    .select({ model: batches.model })
    .from(batches)
    .where(and(eq(batches.datasetSha256, datasetSha256), eq(batches.state, 'counted')))
    .limit(1)
    .get()
  return row !== undefined
}

/**
 * Takes every batch of a domain, of all models, out of the statistics for good. Does nothing while an update runs that may read
 * them; only a canary of other domains does not.
 */
export async function retireForRebuild(db: Database, domain: string): Promise<void> {
  const named = sql`exists (select 1 from json_each(${updates.domains}) as own where own.value = ${domain})`
  const reader = db
    .select({ one: sql`1` })
    .from(updates)
    .where(and(isNull(updates.finishedAt), or(ne(updates.state, 'canary'), named)))
  await db
    .update(batches)
    .set({ state: 'rebuilt', marked: true })
    .where(and(eq(batches.domain, domain), eq(batches.state, 'counted'), notExists(reader)))
}

/** Returns the batches of a domain that do not count since it was rebuilt. */
export async function listRebuilt(db: Database, domain: string): Promise<BatchRow[]> {
  return db
    .select()
    .from(batches)
    .where(and(eq(batches.domain, domain), eq(batches.state, 'rebuilt')))
}

/** Records that the reservoir knows the texts of a domain's batches. */
export async function setBatchesMarked(db: Database, domain: string): Promise<void> {
  await db.update(batches).set({ marked: true }).where(eq(batches.domain, domain))
}

/**
 * Creates the statement that counts the datasets of an update where `guard` holds, with the tokens that the node reported.
 * It belongs into the transaction that activates the mask. It reads the datasets there, because a deletion may replace them
 * at any time.
 */
export function countDatasets(db: Database, updateId: string, guard: SQL, nowMs: number) {
  // Every candidate of an update is selected from the same datasets, so each job reports the same number.
  const tokens = sql`(
    select max(json_extract(counted.value, '$.tokens')) from ${jobs}, json_each(${jobs.result}, '$.tokens') counted
    where ${jobs.updateId} = ${updateId} and ${jobs.kind} = 'calibrate' and json_extract(counted.value, '$.sha256') = ${datasets.sha256}
  )`
  // The reservoir did not mark the texts of an update that the version before has begun, whose job names no weights.
  const marked = sql`exists (
    select 1 from ${jobs} where ${jobs.updateId} = ${updateId} and json_type(${jobs.payload}, '$.selection.weights') is not null
  )`
  return db
    .insert(batches)
    .select(
      sql`select ${updates.model}, ${datasets.sha256}, ${updates.id}, ${datasets.domain}, 'counted', ${tokens}, ${marked}, ${nowMs}
        from ${updates}, json_each(${updates.datasets}) as own inner join ${datasets} on ${datasets.sha256} = own.value
        where ${updates.id} = ${updateId} and ${guard}`,
    )
    .onConflictDoNothing()
}

/** Creates the statement that stores the datasets of the update that `condition` selects as quarantined batches. */
export function quarantineDatasets(db: Database, condition: SQL | undefined, nowMs: number) {
  return db
    .insert(batches)
    .select(
      sql`select ${updates.model}, ${datasets.sha256}, ${updates.id}, ${datasets.domain}, 'quarantined', null, true, ${nowMs}
        from ${updates}, json_each(${updates.datasets}) as own inner join ${datasets} on ${datasets.sha256} = own.value
        where ${condition}`,
    )
    .onConflictDoNothing()
}

/**
 * Creates the statements that take the batches of some updates out of a model's statistics and those of others in again,
 * where `guard` holds. Where a domain is left without statistics, the newest of its retired batches counts that belongs to
 * none of `out`.
 */
export function changeCounted(
  db: Database,
  model: string,
  { out, back, guard }: { out: readonly string[]; back: readonly string[]; guard: SQL },
) {
  const other = alias(batches, 'other')
  const counted = db
    .select({ one: sql`1` })
    .from(other)
    .where(and(eq(other.model, model), eq(other.domain, batches.domain), eq(other.state, 'counted')))
  const newest = db
    .select({ sha256: other.datasetSha256 })
    .from(other)
    .where(
      and(
        eq(other.model, model),
        eq(other.domain, batches.domain),
        eq(other.state, 'retired'),
        not(isAmong(other.updateId, out)),
      ),
    )
    .orderBy(desc(other.createdAt), asc(other.datasetSha256))
    .limit(1)
  const ofModel = eq(batches.model, model)
  return [
    db
      .update(batches)
      .set({ state: 'quarantined' })
      .where(and(ofModel, isAmong(batches.updateId, out), eq(batches.state, 'counted'), guard)),
    db
      .update(batches)
      .set({ state: 'counted' })
      .where(and(ofModel, isAmong(batches.updateId, back), eq(batches.state, 'quarantined'), guard)),
    db
      .update(batches)
      .set({ state: 'counted' })
      .where(
        and(
          ofModel,
          eq(batches.state, 'retired'),
          notExists(counted),
          eq(batches.datasetSha256, sql`(${newest})`),
          guard,
        ),
      ),
  ] as const
}
