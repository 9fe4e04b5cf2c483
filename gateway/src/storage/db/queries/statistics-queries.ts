import { and, asc, eq, ne, or, sql } from 'drizzle-orm'
import type { StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { datasets } from '../schema/domains.ts'
import { masks } from '../schema/masks.ts'
import { batches, statistics } from '../schema/updates.ts'
import { isAmong } from './is-among.ts'

/** A statistics artifact in R2. */
export type StatisticsRow = typeof statistics.$inferSelect

const reference = {
  artifact: statistics.artifact,
  domain: statistics.domain,
  datasets: statistics.datasets,
  bytes: statistics.bytes,
}

/** Returns the statistics of a model in R2, sorted by artifact. */
export async function listStatistics(db: Database, model: string): Promise<StatisticsRef[]> {
  return db
    .select(reference)
    .from(statistics)
    .where(eq(statistics.model, model))
    .orderBy(asc(statistics.artifact))
}

/**
 * Records an artifact whose files are in R2, if all its datasets still exist in its domain.
 *
 * @returns whether it is recorded
 */
export async function insertStatistics(db: Database, row: StatisticsRow): Promise<boolean> {
  const { model, artifact, domain, datasets: hashes, bytes, createdAt } = row
  const summed = JSON.stringify(hashes)
  const missing = sql`select 1 from json_each(${summed}) where not exists (
    select 1 from ${datasets} where ${datasets.sha256} = value and ${datasets.domain} = ${domain}
  )`
  await db
    .insert(statistics)
    .select(
      sql`select ${model}, ${artifact}, ${domain}, ${summed}, ${bytes}, ${createdAt} where not exists (${missing})`,
    )
    .onConflictDoNothing()
  return (await findStatistics(db, artifact)).some((found) => found.model === model)
}

/** Returns the rows of an artifact, one for each model that has it. */
async function findStatistics(db: Database, artifact: string): Promise<StatisticsRow[]> {
  return db.select().from(statistics).where(eq(statistics.artifact, artifact))
}

/** Returns the other artifacts of the same model and domain that sum none but datasets of the given one. */
export async function listContained(db: Database, row: StatisticsRow): Promise<StatisticsRow[]> {
  const others = await db
    .select()
    .from(statistics)
    .where(
      and(
        eq(statistics.model, row.model),
        eq(statistics.domain, row.domain),
        ne(statistics.artifact, row.artifact),
      ),
    )
  const summed = new Set(row.datasets)
  return others.filter((other) => other.datasets.every((hash) => summed.has(hash)))
}

/** Returns the artifacts that sum one of some datasets, of every model. */
export async function listStatisticsOf(db: Database, hashes: readonly string[]): Promise<string[]> {
  const sums = sql`exists (
    select 1 from json_each(${statistics.datasets}) summed join json_each(${JSON.stringify(hashes)}) given
      on summed.value = given.value
  )`
  const rows = await db.selectDistinct({ artifact: statistics.artifact }).from(statistics).where(sums)
  return rows.map(({ artifact }) => artifact)
}

/**
 * Returns the artifacts of which no mask is selected any more: they sum a dataset that does not exist, or one that is quarantined
 * since its update was rolled back from its canary. The mask of such an update was never active, so that nothing brings it back.
 */
export async function listOrphanedStatistics(db: Database): Promise<string[]> {
  const orphaned = sql`exists (
    select 1 from json_each(${statistics.datasets}) where not exists (
      select 1 from ${datasets} where ${datasets.sha256} = value
    )
  )`
  const mayCount = sql`other.state <> 'quarantined' or exists (
    select 1 from ${masks} where ${masks.updateId} = other.update_id and ${masks.promotedAt} is not null
  )`
  const quarantined = sql`exists (
    select 1 from ${batches} where ${batches.model} = ${statistics.model} and ${batches.state} = 'quarantined'
      and ${batches.datasetSha256} in (select value from json_each(${statistics.datasets}))
      and not exists (
        select 1 from ${batches} other where other.dataset_sha256 = ${batches.datasetSha256} and (${mayCount})
      )
  )`
  const rows = await db
    .selectDistinct({ artifact: statistics.artifact })
    .from(statistics)
    .where(or(orphaned, quarantined))
  return rows.map(({ artifact }) => artifact)
}

/** Returns those of some artifacts that are recorded. */
export async function recordedStatistics(db: Database, artifacts: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .selectDistinct({ artifact: statistics.artifact })
    .from(statistics)
    .where(isAmong(statistics.artifact, artifacts))
  return new Set(rows.map(({ artifact }) => artifact))
}

/** Deletes the rows of an artifact. */
export async function forgetStatistics(db: Database, artifact: string): Promise<void> {
  await db.delete(statistics).where(eq(statistics.artifact, artifact))
}
