import { eq } from 'drizzle-orm'
import type { CacheStats } from '../../../contracts/response-cache-object.ts'
import type { Database } from '../../../contracts/database.ts'
import { cacheCounts } from '../schema.ts'

/** What one tenant's response cache holds and did. */
export type CacheCountsRow = typeof cacheCounts.$inferSelect

/** Notes what a tenant's response cache holds and did so far. */
export async function putCacheCounts(db: Database, tenant: string, stats: CacheStats): Promise<void> {
  await db
    .insert(cacheCounts)
    .values({ tenant, ...stats })
    .onConflictDoUpdate({ target: cacheCounts.tenant, set: stats })
}

/** The response caches that were ever used, or one tenant's, by tenant. */
export async function listCacheCounts(db: Database, tenant?: string): Promise<CacheCountsRow[]> {
  return db
    .select()
    .from(cacheCounts)
    .where(tenant === undefined ? undefined : eq(cacheCounts.tenant, tenant))
    .orderBy(cacheCounts.tenant)
}
