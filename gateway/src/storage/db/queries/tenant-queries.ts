import { and, count, eq, isNull, sql } from 'drizzle-orm'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Database } from '../../../contracts/database.ts'
import type { LimitsPatch } from '../../../contracts/limits.ts'
import { apiKeys, tenants } from '../schema/keys.ts'
import { patchedColumn } from './json-columns.ts'

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
