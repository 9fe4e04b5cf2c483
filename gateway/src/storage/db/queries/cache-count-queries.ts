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

/** Returns the counts of a tenant's response cache; undefined if it was never used. */
export async function findCacheCounts(db: Database, tenant: string): Promise<CacheCountsRow | undefined> {
  return db.select().from(cacheCounts).where(eq(cacheCounts.tenant, tenant)).get()
}
