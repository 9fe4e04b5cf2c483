/** Reads the sums of settled usage. */
import { and, eq, ne, or, sql } from 'drizzle-orm'
import type { Database } from '../../../../gateway/src/contracts/database.ts'
import { usageTotals } from '../../../../gateway/src/storage/db/schema/usage.ts'

/** Sums of settled requests and their tokens, by tenant, model, domain, mask version and finish reason. */
interface UsageSum {
  /** Null for receipts that name no key. */
  tenant: string | null
  model: string
  domain: string
  maskVersion: number
  finishReason: (typeof usageTotals.$inferSelect)['finishReason']
  requests: number
  promptTokens: number
  completionTokens: number
}

/** Returns all usage ever settled, one row per tenant, model, domain, mask version and finish reason; of one tenant or all. */
export async function sumUsage(db: Database, onlyTenant?: string): Promise<UsageSum[]> {
  const { tenant, model, domain, maskVersion, finishReason, ...sums } = usageTotals
  const { requests, promptTokens, completionTokens } = sums
  return db
    .select({
      tenant: sql<string | null>`nullif(${tenant}, '')`,
      model,
      domain,
      maskVersion,
      finishReason,
      requests,
      promptTokens,
      completionTokens,
    })
    .from(usageTotals)
    .where(
      and(
        or(ne(requests, 0), ne(completionTokens, 0)),
        onlyTenant === undefined ? undefined : eq(tenant, onlyTenant),
      ),
    )
    .orderBy(tenant, model, domain, maskVersion, finishReason)
}
