import { and, eq, gte, lt, lte, ne, sql, type SQL } from 'drizzle-orm'
import { DAY_MS } from '@copal/shared/day.ts'
import type { UsageOwner } from '../../../contracts/limits.ts'
import type { UnchargedUsage } from '../../../contracts/reservation.ts'
import type { Database } from '../../../contracts/database.ts'
import { apiKeys } from '../schema/keys.ts'
import { receipts, usageDays } from '../schema/usage.ts'
import { addedColumns } from './added-columns.ts'
import { isAmong } from './is-among.ts'

/**
 * Adds the tokens of the rows of a common table expression `changed`, as of receipts that are stored afterwards in the same
 * transaction, to the usage days of their keys. What replaces or removes a receipt is subtracted from the day of that one.
 */
export function addChangesToUsageDays(db: Database, changes: SQL) {
  const counted = sql`
    with ${changes}
    select key_id, created_at / ${sql.raw(String(DAY_MS))}, sum(sign * (prompt_tokens + completion_tokens))
    from changed where key_id is not null and finish_reason <> 'superseded' group by 1, 2`
  return db
    .insert(usageDays)
    .select(counted)
    .onConflictDoUpdate({
      target: [usageDays.keyId, usageDays.day],
      set: addedColumns(['tokens']),
    })
}

/**
 * Returns the tokens that a key, or all keys of a tenant, were charged from the beginning of the day of `fromMs` until
 * `beforeMs`, apart from the requests `except`. It sums days, the last one too, and subtracts the receipts since `beforeMs`. So it reads only these receipts, and
 * older ones can be deleted.
 */
export async function sumChargedTokens(
  db: Database,
  account: UsageOwner,
  { fromMs, beforeMs, except = [] }: Omit<UnchargedUsage, 'refunds'>,
): Promise<number> {
  const firstDay = Math.floor(fromMs / DAY_MS)
  const lastDay = Math.floor(beforeMs / DAY_MS)
  const owner = account.kind === 'key' ? eq(apiKeys.id, account.name) : eq(apiKeys.tenant, account.name)
  const { requestId, promptTokens, completionTokens, finishReason, createdAt, keyId } = receipts
  const days = db
    .select({ tokens: sql`coalesce(sum(${usageDays.tokens}), 0)`.mapWith(Number) })
    .from(usageDays)
    .innerJoin(apiKeys, eq(apiKeys.id, usageDays.keyId))
    .where(and(owner, gte(usageDays.day, firstDay), lte(usageDays.day, lastDay)))
  const subtracted = { tokens: sql`coalesce(-sum(${promptTokens} + ${completionTokens}), 0)`.mapWith(Number) }
  const since = db
    .select(subtracted)
    .from(receipts)
    .innerJoin(apiKeys, eq(apiKeys.id, keyId))
    .where(
      and(
        owner,
        ne(finishReason, 'superseded'),
        gte(createdAt, beforeMs),
        lt(createdAt, (lastDay + 1) * DAY_MS),
      ),
    )
  const excepted = db
    .select(subtracted)
    .from(receipts)
    .where(
      and(
        isAmong(requestId, except),
        ne(finishReason, 'superseded'),
        gte(createdAt, firstDay * DAY_MS),
        lt(createdAt, beforeMs),
      ),
    )
  const parts = await db.batch([days, since, excepted])
  return parts.flat().reduce((sum, { tokens }) => sum + tokens, 0)
}

/** Deletes usage days before the day of a time. */
export async function deleteUsageDays(db: Database, beforeMs: number): Promise<void> {
  await db.delete(usageDays).where(lt(usageDays.day, Math.floor(beforeMs / DAY_MS)))
}
