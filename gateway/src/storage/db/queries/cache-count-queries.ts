import { eq } from 'drizzle-orm'
import type { CacheStats } from '../../../contracts/response-cache-object.ts'
import type { Database } from '../../../contracts/database.ts'
import { cacheCounts } from '../schema/usage.ts'

/** The size and the counts of one tenant's response cache. */
export type CacheCountsRow = typeof cacheCounts.$inferSelect

/** Stores the size and the counts of a tenant's response cache. */
export async function putCacheCounts(db: Database, tenant: string, stats: CacheStats): Promise<void> {
  await db
    .insert(cacheCounts)
    .values({ tenant, ...stats })
    .onConflictDoUpdate({ target: cacheCounts.tenant, set: stats })
}

/** Returns the response caches that were ever used, or one tenant's, sorted by tenant. */
export async function listCacheCounts(db: Database, tenant?: string): Promise<CacheCountsRow[]> {
  return db
    .select()
    .from(cacheCounts)
    .where(tenant === undefined ? undefined : eq(cacheCounts.tenant, tenant))
    .orderBy(cacheCounts.tenant)
}
