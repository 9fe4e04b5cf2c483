import { and, eq, inArray, isNull, ne, sql, sum } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { decisions, masks } from '../schema/masks.ts'
import { periodDomains } from '../schema/periods.ts'
import { jobs, updates } from '../schema/updates.ts'
import { cacheCounts, usageTotals } from '../schema/usage.ts'

/**
 * Returns all usage ever settled over all tenants, by model, domain, mask version and finish reason. Its number of rows does
 * not grow with tenants or receipts.
 */
export async function sumUsageOfService(db: Database) {
  const { model, domain, maskVersion, finishReason, requests, ...sums } = usageTotals
  const total = (column: Parameters<typeof sum>[0]) => sum(column).mapWith(Number)
  return db
    .select({
      model,
      domain,
      maskVersion,
      finishReason,
      requests: total(requests),
      promptTokens: total(sums.promptTokens),
      completionTokens: total(sums.completionTokens),
      driftRequests: total(sums.driftRequests),
      driftTokens: total(sums.driftTokens),
      nllMasked: total(sums.nllMasked),
      nllDense: total(sums.nllDense),
    })
    .from(usageTotals)
    .groupBy(model, domain, maskVersion, finishReason)
    .orderBy(model, domain, maskVersion, finishReason)
}

/** Returns all usage of one tenant ever settled, in the same form. */
export async function sumUsageOfTenant(db: Database, tenant: string): ReturnType<typeof sumUsageOfService> {
  const { tenant: owner, ...columns } = usageTotals
  const { model, domain, maskVersion, finishReason, requests, promptTokens, completionTokens } = columns
  const { driftRequests, driftTokens, nllMasked, nllDense } = columns
  return db
    .select({
      model,
      domain,
      maskVersion,
      finishReason,
      requests,
      promptTokens,
      completionTokens,
      driftRequests,
      driftTokens,
      nllMasked,
      nllDense,
    })
    .from(usageTotals)
    .where(and(eq(owner, tenant), ne(requests, 0)))
    .orderBy(model, domain, maskVersion, finishReason)
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

/** Returns the sparsity of every mask. */
export async function listMaskSparsities(
  db: Database,
): Promise<{ model: string; version: number; sparsity: number }[]> {
  const { model, version, sparsity } = masks
  return db.select({ model, version, sparsity }).from(masks).orderBy(model, version)
}

/** Returns the number of updates by model and state. */
export async function countUpdates(db: Database) {
  const { model, state } = updates
  return db
    .select({ model, state, updates: sql<number>`count(*)` })
    .from(updates)
    .groupBy(model, state)
    .orderBy(model, state)
}

/**
 * Returns the number of updates of each model that failed or were rolled back since the last one that was promoted, without those for
 * the mask of one domain.
 */
export async function countFailedInARow(db: Database): Promise<{ model: string; updates: number }[]> {
  const { model, state, ownDomain } = updates
  const ofAll = isNull(ownDomain)
  const lastPromoted = db.$with('last_promoted').as(
    db
      .select({ model, place: sql<number>`max("updates".rowid)`.as('place') })
      .from(updates)
      .where(and(ofAll, eq(state, 'promoted')))
      .groupBy(model),
  )
  // SQLite numbers rows as they are inserted, and an update starts only when the one before has ended.
  const isLater = sql`"updates".rowid > coalesce(${lastPromoted.place}, 0)`
  const isFailure = and(inArray(state, ['failed', 'rolled_back']), isLater)
  return db
    .with(lastPromoted)
    .select({ model, updates: sql<number>`sum(coalesce(${isFailure}, 0))` })
    .from(updates)
    .leftJoin(lastPromoted, eq(lastPromoted.model, model))
    .where(ofAll)
    .groupBy(model)
    .orderBy(model)
}

/** Returns the mean progress of the open jobs of running updates, by model and kind. */
export async function averageJobProgress(db: Database) {
  const { model, kind, progress, state } = jobs
  return db
    .select({ model, kind, progress: sql<number>`avg(${progress})` })
    .from(jobs)
    .innerJoin(updates, eq(updates.id, jobs.updateId))
    .where(and(sql`${updates.finishedAt} is null`, inArray(state, ['queued', 'running', 'done'])))
    .groupBy(model, kind)
    .orderBy(model, kind)
}

/** Returns the number of decisions by model, kind and verdict. */
export async function countDecisions(db: Database) {
  const { model, kind, verdict } = decisions
  return db
    .select({ model, kind, verdict, decisions: sql<number>`count(*)` })
    .from(decisions)
    .groupBy(model, kind, verdict)
    .orderBy(model, kind, verdict)
}

/** Returns the newest gate decision of each model. */
export async function listNewestGates(db: Database) {
  const newest = sql`(select max(id) from ${decisions} where kind = 'gate' group by model)`
  return db.select().from(decisions).where(inArray(decisions.id, newest)).orderBy(decisions.model)
}

/** Returns the counts of the response caches of all tenants together; undefined without any. */
export async function sumCacheCounts(db: Database) {
  const total = (column: Parameters<typeof sum>[0]) =>
    sql<number>`coalesce(${sum(column)}, 0)`.mapWith(Number)
  const { hits, misses, answers, bytes } = cacheCounts
  return db
    .select({ hits: total(hits), misses: total(misses), answers: total(answers), bytes: total(bytes) })
    .from(cacheCounts)
    .get()
}
