import { and, count, eq, gt, isNull, sql } from 'drizzle-orm'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Database } from '../../../contracts/database.ts'
import type { LimitsPatch } from '../../../contracts/limits.ts'
import { apiKeys, tenants } from '../schema/keys.ts'
import { patchedColumn } from './json-columns.ts'

/** A tenant as stored. */
export type TenantRow = typeof tenants.$inferSelect
/** A tenant and the number of its keys that are not revoked. */
export type CountedTenant = TenantRow & { keys: number }

/** Returns tenants sorted by name: at most `limit`, of those after a name. */
export async function listTenants(
  db: Database,
  { after = '', limit }: { after?: string | undefined; limit: number },
): Promise<CountedTenant[]> {
  return selectTenants(db).where(gt(tenants.name, after)).limit(limit)
}

/** Returns one tenant. */
export async function findTenant(db: Database, name: string): Promise<CountedTenant | undefined> {
  return selectTenants(db).where(eq(tenants.name, name)).get()
}

function selectTenants(db: Database) {
  const { name, createdAt, limits, sampling } = tenants
  const isItsKey = and(eq(apiKeys.tenant, name), isNull(apiKeys.revokedAt))
  const keys = db.select({ keys: count() }).from(apiKeys).where(isItsKey)
  return db
    .select({ name, createdAt, limits, sampling, keys: sql`(${keys})`.mapWith(Number) })
    .from(tenants)
    .orderBy(name)
    .$dynamic()
}

/** Returns whether a tenant exists. */
export async function hasTenant(db: Database, name: string): Promise<boolean> {
  const row = await db.select({ name: tenants.name }).from(tenants).where(eq(tenants.name, name)).get()
  return row !== undefined
}

/** Returns the names of all tenants. */
export async function listTenantNames(db: Database): Promise<string[]> {
  return (await db.select({ name: tenants.name }).from(tenants)).map(({ name }) => name)
}

/** Creates a tenant unless it exists. */
export async function ensureTenant(db: Database, name: string, nowMs: number): Promise<void> {
  await db.insert(tenants).values({ name, createdAt: nowMs }).onConflictDoNothing()
}

/**
 * Changes a tenant's limits, and the most that its keys may have sampled; isolates apply them within 30 s. Another most is
 * another consent version of each of its keys. Nothing else is written, so that of changes at the same time none undoes another.
 */
export async function changeTenant(
  db: Database,
  name: string,
  { limits, sampling }: { limits: LimitsPatch; sampling: SamplingPolicy | undefined },
): Promise<void> {
  const isTenant = eq(tenants.name, name)
  const setLimits = db
    .update(tenants)
    .set({ limits: patchedColumn(tenants.limits, limits) })
    .where(isTenant)
  if (sampling === undefined) return void (await setLimits)
  const differs = sql`exists (select 1 from ${tenants} where ${tenants.name} = ${name} and ${tenants.sampling} <> ${sampling})`
  await db.batch([
    setLimits,
    db
      .update(apiKeys)
      .set({ consentVersion: sql`${apiKeys.consentVersion} + 1` })
      .where(and(eq(apiKeys.tenant, name), differs)),
    db.update(tenants).set({ sampling }).where(isTenant),
  ])
}
