import { and, eq, isNull, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { accumulated, apiKeys, datasets, domains, evaluations, usageTotals } from '../schema.ts'

/** A domain with its frozen holdout. */
export type DomainRow = typeof domains.$inferSelect

/** Registers domains that do not exist yet. */
export async function ensureDomains(db: Database, names: readonly string[], nowMs: number): Promise<void> {
  if (names.length === 0) return
  const [first, ...rest] = names.map((name) =>
    db.insert(domains).values({ name, createdAt: nowMs }).onConflictDoNothing(),
  )
  if (first) await db.batch([first, ...rest])
}

/**
 * Registers a domain when its first samples arrive, for the tenant of one of their keys that has created fewer than
 * `maxPerTenant` domains in this way. Does nothing if there are `maxDomains` domains in total.
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
        sql`select ${name}, null, null, ${nowMs}, tenant
          from json_each(${JSON.stringify(keyIds)}) as sampled left join ${apiKeys} on api_keys.id = sampled.value
          where ${hasRoom} and ${mayCreate} limit 1`,
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

/** Returns one domain. */
export async function findDomain(db: Database, name: string): Promise<DomainRow | undefined> {
  return db.select().from(domains).where(eq(domains.name, name)).get()
}

/**
 * Freezes a domain's holdout unless it is frozen already.
 *
 * @returns the domain after the change
 */
export async function freezeHoldout(
  db: Database,
  name: string,
  holdout: { sha256: string; samples: number },
): Promise<DomainRow | undefined> {
  const [, rows] = await db.batch([
    db
      .update(domains)
      .set({ holdoutSha256: holdout.sha256, holdoutSamples: holdout.samples })
      .where(and(eq(domains.name, name), isNull(domains.holdoutSha256))),
    db.select().from(domains).where(eq(domains.name, name)),
  ])
  return rows[0]
}

/** Deletes a domain with its datasets, its evaluations and its usage totals. */
export async function forgetDomain(db: Database, name: string): Promise<void> {
  await db.batch([
    db.delete(accumulated).where(eq(accumulated.domain, name)),
    db.delete(evaluations).where(eq(evaluations.domain, name)),
    db.delete(datasets).where(eq(datasets.domain, name)),
    db.delete(usageTotals).where(eq(usageTotals.domain, name)),
    db.delete(domains).where(eq(domains.name, name)),
  ])
}
