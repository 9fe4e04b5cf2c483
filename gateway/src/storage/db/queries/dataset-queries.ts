import { and, count, eq, inArray, isNull, notExists, or, sql } from 'drizzle-orm'
import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { accumulated, datasets, domains, updates } from '../schema.ts'

/** Stores the record of a frozen dataset; does nothing if it exists. */
export async function insertDataset(db: Database, dataset: typeof datasets.$inferInsert): Promise<void> {
  await db.insert(datasets).values(dataset).onConflictDoNothing()
}

const reference = { sha256: datasets.sha256, domain: datasets.domain, samples: datasets.samples }

/** Returns references to datasets, in the order of their hashes; unknown ones are left out. */
export async function findDatasets(db: Database, hashes: readonly string[]): Promise<DatasetRef[]> {
  if (hashes.length === 0) return []
  const rows = await db
    .select(reference)
    .from(datasets)
    .where(inArray(datasets.sha256, [...hashes]))
  return hashes.flatMap((hash) => rows.find(({ sha256 }) => sha256 === hash) ?? [])
}

/** Returns the datasets in a model's accumulated statistics, oldest first. */
export async function listAccumulated(db: Database, model: string): Promise<DatasetRef[]> {
  return db
    .select(reference)
    .from(accumulated)
    .innerJoin(datasets, eq(datasets.sha256, accumulated.datasetSha256))
    .where(eq(accumulated.model, model))
    .orderBy(accumulated.createdAt, accumulated.datasetSha256)
}

/** Counts the datasets of each domain that are in the statistics of any model. */
export async function countCalibratedDatasets(db: Database): Promise<Map<string, number>> {
  const rows = await db
    .select({ domain: accumulated.domain, datasets: count() })
    .from(accumulated)
    .groupBy(accumulated.domain)
  return new Map(rows.map(({ domain, datasets: total }) => [domain, total]))
}

/** Returns every dataset of a domain, including its holdout if that is frozen. */
export async function listDatasetsOf(db: Database, domain: string): Promise<string[]> {
  const rows = await db.select({ sha256: datasets.sha256 }).from(datasets).where(eq(datasets.domain, domain))
  return rows.map(({ sha256 }) => sha256)
}

/**
 * Returns those of some datasets that nothing needs: they are in no statistics and are no holdout, and no running update
 * has them or may be about to freeze the same texts.
 */
export async function findUnusedDatasets(db: Database, hashes: readonly string[]): Promise<string[]> {
  if (hashes.length === 0) return []
  const counts = db.select().from(accumulated).where(eq(accumulated.datasetSha256, datasets.sha256))
  const heldOut = db.select().from(domains).where(eq(domains.holdoutSha256, datasets.sha256))
  const owned = sql`exists (select 1 from json_each(${updates.datasets}) where value = ${datasets.sha256})`
  const collecting = sql`${updates.state} = 'collecting' and exists (select 1 from json_each(${updates.domains}) where value = ${datasets.domain})`
  const running = db
    .select()
    .from(updates)
    .where(and(isNull(updates.finishedAt), or(owned, collecting)))
  const rows = await db
    .select({ sha256: datasets.sha256 })
    .from(datasets)
    .where(
      and(inArray(datasets.sha256, [...hashes]), notExists(counts), notExists(heldOut), notExists(running)),
    )
  return rows.map(({ sha256 }) => sha256)
}

/**
 * Replaces a dataset by another in the statistics of every model and as its domain's holdout, or removes it there if
 * `replacement` is undefined. The record of the old dataset stays until {@link forgetDatasets}, so that this can be repeated.
 */
export async function replaceDataset(
  db: Database,
  old: string,
  replacement: DatasetRef | undefined,
): Promise<void> {
  const replaced = eq(accumulated.datasetSha256, old)
  if (replacement) {
    const { model, domain, updateId, createdAt } = accumulated
    const datasetSha256 = sql<string>`${replacement.sha256}`.as('dataset')
    const counted = db
      .select({ model, datasetSha256, domain, updateId, createdAt })
      .from(accumulated)
      .where(replaced)
    // The remaining texts of two datasets may be the same.
    await db.insert(accumulated).select(counted).onConflictDoNothing()
  }
  const holdout = { holdoutSha256: replacement?.sha256 ?? null, holdoutSamples: replacement?.samples ?? null }
  await db.batch([
    db.delete(accumulated).where(replaced),
    db.update(domains).set(holdout).where(eq(domains.holdoutSha256, old)),
  ])
}

/** Deletes the records of datasets whose texts were deleted. */
export async function forgetDatasets(db: Database, hashes: readonly string[]): Promise<void> {
  if (hashes.length > 0) await db.delete(datasets).where(inArray(datasets.sha256, [...hashes]))
}
