import { and, desc, eq, gte, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { apiKeys } from '../schema/keys.ts'
import { usageDays } from '../schema/usage.ts'

/** Maximum number of keys in a report. */
const MAX_KEYS = 1_000

/** The tokens that a key was charged since some day. */
export interface KeyUsage {
  id: string
  name: string
  tenant: string
  prefix: string
  revokedAt: number | null
  total: number
  /** Tokens by day, days since 1970. */
  byDay: Record<string, number>
}

/** Returns the usage of the keys of a tenant, or of all, also of revoked ones: those with most tokens first, at most 1,000. */
export async function listKeyUsage(
  db: Database,
  tenant: string | undefined,
  firstDay: number,
): Promise<KeyUsage[]> {
  const { id, name, prefix, revokedAt } = apiKeys
  const total = sql<number>`sum(${usageDays.tokens})`
  const rows = await db
    .select({
      id,
      name,
      tenant: apiKeys.tenant,
      prefix,
      revokedAt,
      total,
      days: sql<string>`json_group_object(${usageDays.day}, ${usageDays.tokens})`,
    })
    .from(usageDays)
    .innerJoin(apiKeys, eq(apiKeys.id, usageDays.keyId))
    .where(and(gte(usageDays.day, firstDay), tenant === undefined ? undefined : eq(apiKeys.tenant, tenant)))
    .groupBy(id)
    .orderBy(desc(total), id)
    .limit(MAX_KEYS)
  return rows.map(({ days, ...key }) => ({ ...key, byDay: JSON.parse(days) as Record<string, number> }))
}
