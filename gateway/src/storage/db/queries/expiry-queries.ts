import { and, asc, count, eq, inArray, isNotNull, sql } from 'drizzle-orm'
import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { datasets, holdouts } from '../schema/domains.ts'
import { batches, statistics, updates } from '../schema/updates.ts'
import { isAmong } from './is-among.ts'
import { isForceableUpdate } from './dataset-queries.ts'

/**
 * Marks datasets that were frozen before `beforeMs` as expired, if they are in batches and their texts are needed no more: they
 * are no holdout, no update reads them or may still be forced, the reservoir knows their texts, and where they count, an
 * artifact sums them with nothing but counted datasets. One statement, so that an update that begins sees which are expired.
 *
 * @returns their hashes
 */
export async function expireOldDatasets(
  db: Database,
  beforeMs: number,
  nowMs: number,
  limit: number,
): Promise<string[]> {
  // The lists are read once and not for each dataset, because those that can never expire are looked at every five minutes. They
  // have one column, because SQLite looks through a whole list of rows for nulls.
  const summed = sql`(
    with whole as materialized (
      select model, datasets from ${statistics} where not exists (
        select 1 from json_each(${statistics.datasets}) part where not exists (
          select 1 from ${batches} other where other.model = ${statistics.model} and other.dataset_sha256 = part.value
            and other.state = 'counted')))
    select whole.model || ' ' || summed.value from whole, json_each(whole.datasets) summed)`
  const isRunning = sql`${updates.finishedAt} is null`
  const needed = sql`(select dataset_sha256 from ${batches} batch where not batch.marked
    or (batch.state = 'counted' and batch.model || ' ' || batch.dataset_sha256 not in ${summed})
    or batch.model in (select ${updates.model} from ${updates} where ${isRunning} and ${updates.state} <> 'canary')
    or batch.domain in (select named.value from ${updates}, json_each(${updates.domains}) named where ${isRunning})
    or batch.dataset_sha256 in (
      select own.value from ${updates}, json_each(${updates.datasets}) own where ${isForceableUpdate(nowMs)}))`
  const rows = await db.all<{ sha256: string }>(sql`
    update ${datasets} set expired_at = ${nowMs} where sha256 in (
      select old.sha256 from ${datasets} old
      where old.created_at < ${beforeMs} and old.expired_at is null
        and not exists (select 1 from ${holdouts} where ${holdouts.sha256} = old.sha256)
        and old.sha256 in (select dataset_sha256 from ${batches}) and old.sha256 not in ${needed}
      order by old.created_at limit ${limit})
    returning sha256`)
  return rows.map(({ sha256 }) => sha256)
}

/** Returns those of some datasets whose texts have expired. */
export async function listExpired(db: Database, hashes: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .select({ sha256: datasets.sha256 })
    .from(datasets)
    .where(and(isAmong(datasets.sha256, hashes), isNotNull(datasets.expiredAt)))
  return new Set(rows.map(({ sha256 }) => sha256))
}

/** Counts the datasets of each domain that count although their texts have expired. */
export async function countExpired(db: Database): Promise<{ domain: string; datasets: number }[]> {
  return db
    .select({ domain: datasets.domain, datasets: count() })
    .from(datasets)
    .where(
      and(
        isNotNull(datasets.expiredAt),
        inArray(
          datasets.sha256,
          db.select({ sha256: batches.datasetSha256 }).from(batches).where(eq(batches.state, 'counted')),
        ),
      ),
    )
    .groupBy(datasets.domain)
    .orderBy(asc(datasets.domain))
}

/** Takes expired datasets whose statistics are lost out of the statistics of a model. */
export async function retireLost(db: Database, model: string, lost: readonly DatasetRef[]): Promise<void> {
  const hashes = lost.map(({ sha256 }) => sha256)
  await db
    .update(batches)
    .set({ state: 'retired' })
    .where(
      and(eq(batches.model, model), eq(batches.state, 'counted'), isAmong(batches.datasetSha256, hashes)),
    )
}
