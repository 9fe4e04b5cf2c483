import { and, eq, exists, inArray, isNull, sql, sum, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import type { Database } from '../../../contracts/database.ts'
import { decisions, masks, models } from '../schema/masks.ts'
import { periodDomains } from '../schema/periods.ts'
import { jobs, updates } from '../schema/updates.ts'
import { cacheCounts, usageTotals } from '../schema/usage.ts'
import { jsonColumns } from './json-columns.ts'

/** The newest masks with traffic that have series of their own, besides those in force. */
const NEWEST_MASKS = 10

/** A mask of a model; version 0 is the dense model. */
export interface ModelMask {
  model: string
  version: number
}

/** Sums of settled requests by model, domain, mask and finish reason. */
export type UsageRow = Omit<typeof usageTotals.$inferSelect, 'tenant'>

/**
 * Returns the usage of the masks that have series, of all tenants together or of one: of `inForce`, and of each model's newest
 * with traffic. It reads the rows of these masks alone, so what a scrape costs does not grow with updates.
 */
export async function sumUsage(
  db: Database,
  inForce: readonly ModelMask[],
  tenant?: string,
): Promise<UsageRow[]> {
  const { model, domain, maskVersion, finishReason } = usageTotals
  const sums = {
    requests: total(usageTotals.requests),
    promptTokens: total(usageTotals.promptTokens),
    completionTokens: total(usageTotals.completionTokens),
    driftRequests: total(usageTotals.driftRequests),
    driftTokens: total(usageTotals.driftTokens),
    nllMasked: total(usageTotals.nllMasked),
    nllDense: total(usageTotals.nllDense),
  }
  const newestOf = (condition: SQL) => sql`(select max(mask_version) from ${usageTotals} where ${condition})`
  const shown = sql`(
    with recursive used(model) as (
      select min(model) from ${usageTotals}
      union all
      select (select min(model) from ${usageTotals} where model > used.model) from used where model is not null
    ), newest(model, version, place) as (
      select model, ${newestOf(sql`model = used.model`)}, 1 from used where model is not null
      union all
      select model, ${newestOf(sql`model = newest.model and mask_version < newest.version`)}, place + 1
      from newest where version is not null and place < ${NEWEST_MASKS}
    )
    select model, version from newest where version is not null
    union select ${jsonColumns('model', 'version')} from json_each(${JSON.stringify(inForce)}))`
  return (
    db
      .select({ model, domain, maskVersion, finishReason, ...sums })
      // In this order, or SQLite reads every mask.
      .from(sql`${shown} shown`)
      .crossJoin(usageTotals)
      .where(
        and(
          sql`${model} = shown.model and ${maskVersion} = shown.version`,
          tenant === undefined ? undefined : eq(usageTotals.tenant, tenant),
        ),
      )
      .groupBy(model, domain, maskVersion, finishReason)
      .orderBy(model, domain, maskVersion, finishReason)
  )
}

function total(column: SQLiteColumn): SQL<number> {
  return sql`sum(${column})`.mapWith(Number)
}

/** Returns the domains of models that series name, the oldest `limit` of each model. */
export async function listNamedDomains(
  db: Database,
  limit: number,
): Promise<{ model: string; domain: string }[]> {
  const { model, domain } = periodDomains
  const ranked = db.$with('ranked').as(
    db
      .select({
        model,
        domain,
        // By age: SQLite numbers rows as they are inserted. Most have the same `since`.
        place: sql<number>`row_number() over (partition by ${model} order by rowid)`.as('place'),
      })
      .from(periodDomains),
  )
  return db
    .with(ranked)
    .select({ model: ranked.model, domain: ranked.domain })
    .from(ranked)
    .where(sql`${ranked.place} <= ${limit}`)
}

/** Returns the sparsity of some masks. */
export async function listSparsities(
  db: Database,
  of: readonly ModelMask[],
): Promise<(ModelMask & { sparsity: number })[]> {
  const { model, version, sparsity } = masks
  const named = sql`(select ${jsonColumns('model', 'version')} from json_each(${JSON.stringify(of)}))`
  return db
    .select({ model, version, sparsity })
    .from(masks)
    .where(sql`(${model}, ${version}) in ${named}`)
    .orderBy(model, version)
}

/**
 * Returns the number of updates of each model that failed or were rolled back since the last one that was promoted, without those for
 * the mask of one domain.
 */
export async function countFailedInARow(db: Database): Promise<{ model: string; updates: number }[]> {
  // SQLite numbers rows as they are inserted, and an update starts only when the one before has ended. By the index of states.
  const failures = sql<number>`(
    select count(*) from updates failed where failed.model = models.id and failed.state in ('failed', 'rolled_back')
      and failed.own_domain is null and failed.rowid > coalesce((
        select rowid from updates promoted where promoted.model = models.id and promoted.state = 'promoted'
          and promoted.own_domain is null order by rowid desc limit 1), 0))`
  return db
    .select({ model: models.id, updates: failures })
    .from(models)
    .where(
      exists(
        db
          .select()
          .from(updates)
          .where(and(eq(updates.model, models.id), isNull(updates.ownDomain))),
      ),
    )
    .orderBy(models.id)
}

/** Returns the mean progress of the open jobs of running updates, by model and kind. */
export async function averageJobProgress(db: Database) {
  const { model, kind, progress, state } = jobs
  const running = db.select({ id: updates.id }).from(updates).where(isNull(updates.finishedAt))
  return db
    .select({ model, kind, progress: sql<number>`avg(${progress})` })
    .from(jobs)
    .where(and(inArray(jobs.updateId, running), inArray(state, ['queued', 'running', 'done'])))
    .groupBy(model, kind)
    .orderBy(model, kind)
}

/** Returns the newest gate decision of each model. */
export async function listNewestGates(db: Database) {
  const newest = sql`(select (select id from ${decisions} gate where gate.model = ${models.id} and gate.kind = 'gate'
    order by created_at desc, id desc limit 1) from ${models})`
  return db.select().from(decisions).where(inArray(decisions.id, newest)).orderBy(decisions.model)
}

/** Returns the counts of the response caches of all tenants together; undefined without any. */
export async function sumCacheCounts(db: Database) {
  const { hits, misses, answers, bytes } = cacheCounts
  const known = (column: SQLiteColumn) => sql<number>`coalesce(${sum(column)}, 0)`.mapWith(Number)
  return db
    .select({ hits: known(hits), misses: known(misses), answers: known(answers), bytes: known(bytes) })
    .from(cacheCounts)
    .get()
}

/** Returns the size of the database, bytes. */
export async function findDatabaseSize(db: Database): Promise<number> {
  const { meta } = await db.run(sql`select 1`)
  return meta.size_after
}
