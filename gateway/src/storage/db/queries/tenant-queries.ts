import { and, count, eq, isNull } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import type { Limits } from '../../../contracts/limits.ts'
import { apiKeys, tenants } from '../schema/keys.ts'

/** A tenant as stored. */
export type TenantRow = typeof tenants.$inferSelect
/** A tenant and the number of its keys that are not revoked. */
export type CountedTenant = TenantRow & { keys: number }

/** Returns every tenant sorted by name, or only the one with `name`. */
export async function listTenants(db: Database, name?: string): Promise<CountedTenant[]> {
  return db
    .select({
      name: tenants.name,
      createdAt: tenants.createdAt,
      limits: tenants.limits,
      sampling: tenants.sampling,
      keys: count(apiKeys.id),
    })
    .from(tenants)
    .leftJoin(apiKeys, and(eq(apiKeys.tenant, tenants.name), isNull(apiKeys.revokedAt)))
    .where(name === undefined ? undefined : eq(tenants.name, name))
    .groupBy(tenants.name)
    .orderBy(tenants.name)
}

/** Creates a tenant unless it exists. */
export async function ensureTenant(db: Database, name: string, nowMs: number): Promise<void> {
  await db.insert(tenants).values({ name, createdAt: nowMs }).onConflictDoNothing()
}

/** Sets a tenant's limits; isolates apply them within 30 s. */
export async function setTenantLimits(db: Database, name: string, limits: Limits): Promise<void> {
  await db.update(tenants).set({ limits }).where(eq(tenants.name, name))
}
