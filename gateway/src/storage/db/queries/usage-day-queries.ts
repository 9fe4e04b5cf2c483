import { and, eq, gte, lt, ne, sql } from 'drizzle-orm'
import type { UnreadUsage } from '../../../contracts/reservation.ts'
import type { Database } from '../../../contracts/database.ts'
import { apiKeys, receipts, usageDays } from '../schema.ts'
import { changed } from './usage-total-queries.ts'

export const DAY_MS = 24 * 60 * 60 * 1000

/**
 * Adds to the days of keys what storing these rows will charge them: what is new, and what comes in place of an estimate,
 * which the day of that loses. To be run before they are stored, in one transaction with that.
 */
export function countDays(db: Database, json: string) {
  const counted = sql`
    with ${changed(json)}
    select key_id, created_at / ${sql.raw(String(DAY_MS))}, sum(sign * (prompt_tokens + completion_tokens))
    from changed where key_id is not null group by 1, 2`
  return db
    .insert(usageDays)
    .select(counted)
    .onConflictDoUpdate({
      target: [usageDays.keyId, usageDays.day],
      set: { tokens: sql`tokens + excluded.tokens` },
    })
}

/**
 * Tokens that a key, or all keys of a tenant, were charged from the beginning of the day of `fromMs` until before
 * `beforeMs`: by days, but of the last one by its receipts, so that these alone need be kept.
 */
export async function sumTokens(
  db: Database,
  account: { kind: 'key' | 'tenant'; name: string },
  { fromMs, beforeMs }: UnreadUsage,
): Promise<number> {
  const firstDay = Math.floor(fromMs / DAY_MS)
  const lastDay = Math.floor(beforeMs / DAY_MS)
  const owner = account.kind === 'key' ? eq(apiKeys.id, account.name) : eq(apiKeys.tenant, account.name)
  const { promptTokens, completionTokens, finishReason, createdAt, keyId } = receipts
  const days = db
    .select({ tokens: sql`coalesce(sum(${usageDays.tokens}), 0)`.mapWith(Number) })
    .from(usageDays)
    .innerJoin(apiKeys, eq(apiKeys.id, usageDays.keyId))
    .where(and(owner, gte(usageDays.day, firstDay), lt(usageDays.day, lastDay)))
  const rest = db
    .select({ tokens: sql`coalesce(sum(${promptTokens} + ${completionTokens}), 0)`.mapWith(Number) })
    .from(receipts)
    .innerJoin(apiKeys, eq(apiKeys.id, keyId))
    .where(
      and(
        owner,
        ne(finishReason, 'superseded'),
        gte(createdAt, Math.max(firstDay, lastDay) * DAY_MS),
        lt(createdAt, beforeMs),
      ),
    )
  const parts = await db.batch([days, rest])
  return parts.flat().reduce((sum, { tokens }) => sum + tokens, 0)
}

/** Deletes days before the day of a time. */
export async function deleteDays(db: Database, beforeMs: number): Promise<void> {
  await db.delete(usageDays).where(lt(usageDays.day, Math.floor(beforeMs / DAY_MS)))
}
