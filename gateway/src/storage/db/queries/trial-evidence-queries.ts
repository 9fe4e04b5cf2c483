/** The requests that a trial is judged by, in the order of time. */
import { and, asc, desc, eq, gt, gte, lt, notInArray, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { receipts, shadowScores } from '../schema/usage.ts'
import { OTHER_DOMAINS } from './usage-total-queries.ts'

/** The prompt of a request that was scored under the active mask and under a shadow; losses are sums of nats. */
export interface ScoredPrompt {
  /** Unregistered domains are one. */
  domain: string
  tokens: number
  nll: number
  nllShadow: number
  /** Unix milliseconds. */
  createdAt: number
}

/** Returns the first scored prompts of a shadow beside a mask since a time, oldest first. */
export async function listScoredPrompts(
  db: Database,
  versions: { model: string; shadowVersion: number; maskVersion: number },
  fromMs: number,
  limit: number,
): Promise<ScoredPrompt[]> {
  const { domain, model, shadowVersion, maskVersion, promptTokens, createdAt, requestId } = shadowScores
  return db
    .select({
      domain: sql<string>`iif(${domain} in (select name from domains), ${domain}, ${OTHER_DOMAINS})`,
      tokens: promptTokens,
      nll: shadowScores.promptNll,
      nllShadow: shadowScores.promptNllShadow,
      createdAt,
    })
    .from(shadowScores)
    .where(
      and(
        eq(model, versions.model),
        eq(shadowVersion, versions.shadowVersion),
        eq(maskVersion, versions.maskVersion),
        gte(createdAt, fromMs),
        gt(promptTokens, 0),
      ),
    )
    .orderBy(asc(createdAt), asc(requestId))
    .limit(limit)
}

/** An attempt of a request, as its receipt tells. */
export type SettledAttempt = Pick<
  typeof receipts.$inferSelect,
  'requestId' | 'finishReason' | 'completionTokens' | 'timeToFirstTokenMs' | 'totalMs' | 'createdAt'
>

/**
 * Returns attempts that a mask answered or failed to answer within a time, oldest first: the first ones, or the last ones.
 * Attempts whose client left, or whose request was invalid, say nothing about the mask.
 *
 * @param withLost whether attempts count that were lost: those that another attempt superseded, and those whose node never
 * reported their end. A broken connection or a node that crashes loses attempts whatever their mask
 */
export async function listAttempts(
  db: Database,
  { model, maskVersion }: { model: string; maskVersion: number },
  { fromMs, untilMs }: { fromMs: number; untilMs?: number },
  { limit, take, withLost }: { limit: number; take: 'first' | 'last'; withLost: boolean },
): Promise<SettledAttempt[]> {
  const { requestId, finishReason, completionTokens, timeToFirstTokenMs, totalMs, createdAt } = receipts
  const left = ['cancelled', 'refused'] as const
  const order = take === 'first' ? asc : desc
  const rows = await db
    .select({ requestId, finishReason, completionTokens, timeToFirstTokenMs, totalMs, createdAt })
    .from(receipts)
    .where(
      and(
        eq(receipts.model, model),
        eq(receipts.maskVersion, maskVersion),
        notInArray(finishReason, withLost ? [...left] : [...left, 'superseded']),
        withLost ? undefined : eq(receipts.estimated, false),
        gte(createdAt, fromMs),
        untilMs === undefined ? undefined : lt(createdAt, untilMs),
      ),
    )
    .orderBy(order(createdAt), order(requestId))
    .limit(limit)
  return take === 'first' ? rows : rows.reverse()
}
