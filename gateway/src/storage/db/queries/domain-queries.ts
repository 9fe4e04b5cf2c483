import { and, eq, isNull, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { accumulated, apiKeys, datasets, domains, evaluations, usageTotals } from '../schema.ts'

/** A domain that was seen, with its frozen holdout. */
export type DomainRow = typeof domains.$inferSelect

/** Registers domains on first sight. */
export async function ensureDomains(db: Database, names: readonly string[], nowMs: number): Promise<void> {
  if (names.length === 0) return
  const [first, ...rest] = names.map((name) =>
    db.insert(domains).values({ name, createdAt: nowMs }).onConflictDoNothing(),
  )
  if (first) await db.batch([first, ...rest])
}

/**
 * Registers a domain on the first sight of samples of it: for the tenant of one of their keys that has not made
 * `mostOfTenant` so yet, and unless there are `most` already, however they came to be.
 *
 * @returns whether it is registered then.
 */
export async function admitDomain(
  db: Database,
  name: string,
  keyIds: readonly string[],
  nowMs: number,
  { most, mostOfTenant }: { most: number; mostOfTenant: number },
): Promise<boolean> {
  const hasRoom = sql`(select count(*) from ${domains}) < ${most}`
  const mayMake = sql`(select count(*) from ${domains} where ${domains.createdBy} = tenant) < ${mostOfTenant}`
  const [, rows] = await db.batch([
    db
      .insert(domains)
      .select(
        sql`select ${name}, null, null, ${nowMs}, tenant
          from json_each(${JSON.stringify(keyIds)}) as sampled left join ${apiKeys} on api_keys.id = sampled.value
          where ${hasRoom} and ${mayMake} limit 1`,
      )
      .onConflictDoNothing(),
    db.select({ name: domains.name }).from(domains).where(eq(domains.name, name)),
  ])
  return rows.length > 0
}

/** Every domain, by name. */
export async function listDomains(db: Database): Promise<DomainRow[]> {
  return db.select().from(domains).orderBy(domains.name)
}

/** One domain, if it was ever seen. */
export async function findDomain(db: Database, name: string): Promise<DomainRow | undefined> {
  return db.select().from(domains).where(eq(domains.name, name)).get()
}

/**
 * Freezes a domain's holdout, unless it was frozen before.
 *
 * @returns the domain as it is then.
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

/** Removes a domain with its datasets, its evaluations, and what is told of its traffic. */
export async function forgetDomain(db: Database, name: string): Promise<void> {
  await db.batch([
    db.delete(accumulated).where(eq(accumulated.domain, name)),
    db.delete(evaluations).where(eq(evaluations.domain, name)),
    db.delete(datasets).where(eq(datasets.domain, name)),
    db.delete(usageTotals).where(eq(usageTotals.domain, name)),
    db.delete(domains).where(eq(domains.name, name)),
  ])
}
