import { eq, isNotNull, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { datasets, domains, holdouts, pendingDeletions, reservoirCounts } from '../schema/domains.ts'
import { alerts, detectorStates } from '../schema/detectors.ts'
import { apiKeys } from '../schema/keys.ts'
import { evaluations, models } from '../schema/masks.ts'
import { batches, statistics } from '../schema/updates.ts'
import { usageTotals } from '../schema/usage.ts'
import { isAmong } from './is-among.ts'
import { deletePeriodsOf } from './period-queries.ts'

/** A registered domain. */
export type DomainRow = typeof domains.$inferSelect

/** Registers domains that do not exist yet. */
export async function ensureDomains(db: Database, names: readonly string[], nowMs: number): Promise<void> {
  if (names.length === 0) return
  await db
    .insert(domains)
    .select(sql`select value, ${nowMs}, null, null from json_each(${JSON.stringify(names)}) where true`)
    .onConflictDoNothing()
}

/**
 * Registers a domain when its first samples arrive, for the tenant of one of their keys that has created fewer than
 * `maxPerTenant` domains in this way, however many there are of others. Samples of no known tenant register it while there are
 * fewer than `maxDomains` domains in total.
 *
 * @returns whether the domain is registered now
 */
export async function admitDomain(
  db: Database,
  name: string,
  keyIds: readonly string[],
  nowMs: number,
  { maxDomains, maxPerTenant }: { maxDomains: number; maxPerTenant: number },
): Promise<boolean> {
  const hasRoom = sql`(select count(*) from ${domains}) < ${maxDomains}`
  const mayCreate = sql`(select count(*) from ${domains} where ${domains.createdBy} = tenant) < ${maxPerTenant}`
  const [, rows] = await db.batch([
    db
      .insert(domains)
      .select(
        sql`select ${name}, ${nowMs}, tenant, null
          from json_each(${JSON.stringify(keyIds)}) as sampled left join ${apiKeys} on api_keys.id = sampled.value
          where iif(tenant is null, ${hasRoom}, ${mayCreate}) limit 1`,
      )
      .onConflictDoNothing(),
    db.select({ name: domains.name }).from(domains).where(eq(domains.name, name)),
  ])
  return rows.length > 0
}

/** Returns every domain, sorted by name. */
export async function listDomains(db: Database): Promise<DomainRow[]> {
  return db.select().from(domains).orderBy(domains.name)
}

/** The domains that belong to one tenant, and the masks that serve these domains alone. */
export interface OwnedDomains {
  /** The owner of each. */
  owners: ReadonlyMap<string, string>
  masks: readonly { model: string; version: number; domain: string }[]
}

/** Returns the domains that belong to one tenant, and the masks that serve these domains alone. */
export async function findOwnedDomains(db: Database): Promise<OwnedDomains> {
  const own = sql`json_each(${models.domainVersions}) own`
  const domain = sql<string>`own.key`
  const [owned, ownMasks] = await db.batch([
    db.select({ name: domains.name, owner: domains.owner }).from(domains).where(isNotNull(domains.owner)),
    db
      .select({ model: models.id, version: sql<number>`own.value`, domain })
      .from(models)
      .innerJoin(own, sql`true`)
      .innerJoin(domains, eq(domains.name, domain))
      .where(isNotNull(domains.owner)),
  ])
  return { owners: new Map(owned.map(({ name, owner }) => [name, owner ?? ''])), masks: ownMasks }
}

/** Returns the owners of those of some domains that are registered; null: all tenants share it. */
export async function findOwners(
  db: Database,
  names: readonly string[],
): Promise<Map<string, string | null>> {
  const rows = await db
    .select({ name: domains.name, owner: domains.owner })
    .from(domains)
    .where(isAmong(domains.name, names))
  return new Map(rows.map(({ name, owner }) => [name, owner]))
}

/** Returns one domain. */
export async function findDomain(db: Database, name: string): Promise<DomainRow | undefined> {
  return db.select().from(domains).where(eq(domains.name, name)).get()
}

/** Sets the tenant that alone may use a domain; null: all may. Texts that are stored stay. */
export async function setDomainOwner(db: Database, name: string, owner: string | null): Promise<void> {
  await db.update(domains).set({ owner }).where(eq(domains.name, name))
}

/** Deletes what updates count and evaluate of a domain, so that none that begins reads its datasets. */
export async function withdrawDomain(db: Database, name: string): Promise<void> {
  await db.batch([
    db.delete(batches).where(eq(batches.domain, name)),
    db.delete(holdouts).where(eq(holdouts.domain, name)),
    db.delete(evaluations).where(eq(evaluations.domain, name)),
  ])
}

/** Deletes a domain with its counts, datasets, holdouts, statistics, evaluations, usage totals and periods. */
export async function forgetDomain(db: Database, name: string): Promise<void> {
  await db.batch([
    db.delete(batches).where(eq(batches.domain, name)),
    db.delete(holdouts).where(eq(holdouts.domain, name)),
    db.delete(statistics).where(eq(statistics.domain, name)),
    db.delete(evaluations).where(eq(evaluations.domain, name)),
    db.delete(datasets).where(eq(datasets.domain, name)),
    db.delete(usageTotals).where(eq(usageTotals.domain, name)),
    deletePeriodsOf(db, name),
    db.delete(detectorStates).where(eq(detectorStates.domain, name)),
    db.delete(alerts).where(eq(alerts.domain, name)),
    db.delete(pendingDeletions).where(eq(pendingDeletions.domain, name)),
    db.delete(reservoirCounts).where(eq(reservoirCounts.domain, name)),
    db.delete(domains).where(eq(domains.name, name)),
  ])
}
