import { and, asc, eq, gt, gte, isNull, lt, notExists, notInArray, sql, type SQL } from 'drizzle-orm'
import { DAY_MS } from '@copal/shared/day.ts'
import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { datasets, holdouts } from '../schema/domains.ts'
import { batches, updates } from '../schema/updates.ts'
import { isAmong } from './is-among.ts'

/** How long an update that the gate rejected may be forced, and keeps its texts: as long as samples are kept. */
export const FORCEABLE_MS = 30 * DAY_MS

/**
 * Returns whether an update may be forced: it is for all domains, the gate rejected it less than {@link FORCEABLE_MS} ago, and
 * it is the last one of its model.
 */
export function isForceableUpdate(nowMs: number): SQL {
  return sql`${updates.state} = 'failed' and ${updates.errorCode} = 'gate_failed' and ${updates.ownDomain} is null
    and ${updates.finishedAt} > ${nowMs - FORCEABLE_MS} and not exists (
      select 1 from ${updates} later where later.model = ${updates.model}
        and (later.created_at, later.rowid) > (${updates.createdAt}, "updates".rowid)
    )`
}

/** Stores the record of a frozen dataset. If it exists, it has its texts again. */
export async function insertDataset(db: Database, dataset: typeof datasets.$inferInsert): Promise<void> {
  await db
    .insert(datasets)
    .values(dataset)
    .onConflictDoUpdate({ target: datasets.sha256, set: { expiredAt: null } })
}

const reference = {
  sha256: datasets.sha256,
  domain: datasets.domain,
  samples: datasets.samples,
  bytes: datasets.bytes,
  createdAt: datasets.createdAt,
  expiredAt: datasets.expiredAt,
}

/** Creates the reference to a dataset that a job names. */
export function datasetRefOf({
  expiredAt,
  ...ref
}: DatasetRef & Pick<typeof datasets.$inferSelect, 'expiredAt'>): DatasetRef {
  return expiredAt === null ? ref : { ...ref, expired: true }
}

/** Returns references to datasets, in the order of their hashes; unknown ones are left out. */
export async function findDatasets(db: Database, hashes: readonly string[]): Promise<DatasetRef[]> {
  if (hashes.length === 0) return []
  const rows = await db.select(reference).from(datasets).where(isAmong(datasets.sha256, hashes))
  const refs = new Map(rows.map((row) => [row.sha256, datasetRefOf(row)]))
  return hashes.flatMap((hash) => refs.get(hash) ?? [])
}

/** Returns every dataset of a domain, including the versions of its holdout. */
export async function listDatasetsOf(db: Database, domain: string): Promise<string[]> {
  const rows = await db.select({ sha256: datasets.sha256 }).from(datasets).where(eq(datasets.domain, domain))
  return rows.map(({ sha256 }) => sha256)
}

/**
 * Returns datasets of a domain, including the versions of its holdout, whose texts are stored, in the order of their hashes.
 *
 * @param after only later hashes than this one
 */
export async function listStoredDatasetsOf(
  db: Database,
  domain: string,
  { after, limit }: { after: string; limit: number },
): Promise<string[]> {
  const rows = await db
    .select({ sha256: datasets.sha256 })
    .from(datasets)
    .where(and(eq(datasets.domain, domain), isNull(datasets.expiredAt), gt(datasets.sha256, after)))
    .orderBy(asc(datasets.sha256))
    .limit(limit)
  return rows.map(({ sha256 }) => sha256)
}

/**
 * Whether nothing needs a dataset: it is in no batch and is no holdout, and no update has it that is running or that an operator may
 * still force, or that is about to freeze the same texts.
 */
function isUnused(db: Database, nowMs: number) {
  // The lists are read once and not for each dataset: there is no index by dataset alone, and there are many updates.
  const inBatches = db.select({ sha256: batches.datasetSha256 }).from(batches)
  const heldOut = db.select().from(holdouts).where(eq(holdouts.sha256, datasets.sha256))
  const owned = sql`(select own.value from ${updates}, json_each(${updates.datasets}) own
    where ${updates.finishedAt} is null or (${isForceableUpdate(nowMs)}))`
  const collected = sql`(select own.value from ${updates}, json_each(${updates.domains}) own
    where ${updates.finishedAt} is null and ${updates.state} = 'collecting')`
  return and(
    notInArray(datasets.sha256, inBatches),
    notExists(heldOut),
    notInArray(datasets.sha256, owned),
    notInArray(datasets.domain, collected),
  )
}

/** Returns those of some datasets that nothing needs. */
export async function findUnusedDatasets(
  db: Database,
  hashes: readonly string[],
  nowMs: number,
): Promise<string[]> {
  if (hashes.length === 0) return []
  const rows = await db
    .select({ sha256: datasets.sha256 })
    .from(datasets)
    .where(and(isAmong(datasets.sha256, hashes), isUnused(db, nowMs)))
  return rows.map((row) => row.sha256)
}

/**
 * Returns datasets that nothing needs, of those whose hash begins with the hexadecimal digits `shard` and that are older than `beforeMs`; at most a thousand.
 */
export async function listUnusedDatasets(
  db: Database,
  { shard, beforeMs, nowMs }: { shard: string; beforeMs: number; nowMs: number },
): Promise<string[]> {
  const rows = await db
    .select({ sha256: datasets.sha256 })
    .from(datasets)
    .where(
      and(
        gte(datasets.sha256, shard),
        lt(datasets.sha256, `${shard}g`),
        lt(datasets.createdAt, beforeMs),
        isUnused(db, nowMs),
      ),
    )
    .limit(1_000)
  return rows.map(({ sha256 }) => sha256)
}

/** Deletes the records of those of some datasets that nothing needs. */
export async function forgetUnusedDatasets(
  db: Database,
  hashes: readonly string[],
  nowMs: number,
): Promise<void> {
  await db.delete(datasets).where(and(isAmong(datasets.sha256, hashes), isUnused(db, nowMs)))
}

/**
 * Replaces a dataset by one with the remaining texts, in the batches of every model, in every update and as its domain's
 * holdout, or removes it there if `replacement` is undefined, in one transaction. A holdout version never changes, so the
 * latest one is followed by a new one. The record of the old dataset stays until {@link forgetDatasets}, so that this can be
 * repeated.
 */
export async function replaceDataset(
  db: Database,
  old: string,
  replacement: (DatasetRef & { characters: number }) | undefined,
  nowMs: number,
): Promise<void> {
  const kept = sql`(
    select coalesce(json_group_array(distinct iif(value = ${old}, ${replacement?.sha256 ?? null}, value)), '[]')
    from json_each(${updates.datasets}) where value <> ${old} or ${replacement ? 1 : 0}
  )`
  await db.batch([
    // A canary's update counts what is left when it is promoted, and so does one that can still be forced. It gets another
    // revision, so that no step goes on with the old dataset.
    db
      .update(updates)
      .set({ datasets: kept, revision: sql`${updates.revision} + 1` })
      .where(sql`exists (select 1 from json_each(${updates.datasets}) where value = ${old})`),
    ...(replacement ? insertReplacement(db, old, replacement, nowMs) : []),
    db.delete(batches).where(eq(batches.datasetSha256, old)),
    db.delete(holdouts).where(eq(holdouts.sha256, old)),
  ])
}

/** Creates the statements that add a replacement wherever a dataset is in batches or the latest holdout. */
function insertReplacement(
  db: Database,
  old: string,
  { sha256: hash, samples: number, characters }: DatasetRef & { characters: number },
  nowMs: number,
) {
  const { model, updateId, state, tokens, marked, createdAt: countedAt } = batches
  const copied = db
    .select({
      model,
      datasetSha256: sql<string>`${hash}`.as('dataset'),
      updateId,
      domain: batches.domain,
      state,
      tokens,
      marked,
      createdAt: countedAt,
    })
    .from(batches)
    .where(eq(batches.datasetSha256, old))
  const newest = sql`(select max(version) from ${holdouts} newer where newer.domain = ${holdouts.domain})`
  const next = sql`select ${holdouts.domain}, ${holdouts.version} + 1, ${hash}, ${number}, ${characters}, ${nowMs}
    from ${holdouts} where ${holdouts.sha256} = ${old} and ${holdouts.version} = ${newest}`
  return [
    // The remaining texts of two datasets may be the same.
    db.insert(batches).select(copied).onConflictDoNothing(),
    db.insert(holdouts).select(next).onConflictDoNothing(),
  ] as const
}

/** Deletes the records of datasets whose texts were deleted. */
export async function forgetDatasets(db: Database, hashes: readonly string[]): Promise<void> {
  if (hashes.length > 0) await db.delete(datasets).where(isAmong(datasets.sha256, hashes))
}
