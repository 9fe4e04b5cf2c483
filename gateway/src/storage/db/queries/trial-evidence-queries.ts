/** The requests that a trial is judged by, in the order of time. */
import { and, asc, desc, eq, gt, gte, inArray, isNull, lt, ne, notInArray, or, sql } from 'drizzle-orm'
import type { ErrorCode } from '@copal/shared/errors.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { receipts, shadowScores } from '../schema/usage.ts'

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
 * Errors that weights can cause: values that are not finite, and errors whose cause is unknown. The others have causes that are no
 * fault of the weights: the node was stopped, it lost a process or its GPU, its memory did not suffice, a deadline passed.
 *
 * An error without a code counts too: it is of an older node, whose receipts do not say why a request failed.
 */
const ERRORS_OF_WEIGHTS: readonly ErrorCode[] = ['invalid_output', 'internal_error']

/**
 * Returns attempts that a mask answered or failed to answer within a time, oldest first: the first ones, or the last ones.
 * Attempts whose client left, or whose request was invalid, say nothing about the mask.
 *
 * @param onlyOfWeights leaves out failures that weights cannot cause: attempts with another error than {@link ERRORS_OF_WEIGHTS},
 * those that another attempt superseded, and those whose node never reported their end. A broken connection, or a node that is
 * stopped or crashes, fails attempts whatever their mask
 */
export async function listAttempts(
  db: Database,
  { model, maskVersion }: { model: string; maskVersion: number },
  { fromMs, untilMs }: { fromMs: number; untilMs?: number },
  { limit, take, onlyOfWeights }: { limit: number; take: 'first' | 'last'; onlyOfWeights: boolean },
): Promise<SettledAttempt[]> {
  const { requestId, finishReason, completionTokens, timeToFirstTokenMs, totalMs, createdAt } = receipts
  const { errorCode, estimated } = receipts
  const isOfWeights = and(
    ne(finishReason, 'superseded'),
    eq(estimated, false),
    or(ne(finishReason, 'error'), isNull(errorCode), inArray(errorCode, [...ERRORS_OF_WEIGHTS])),
  )
  const order = take === 'first' ? asc : desc
  const rows = await db
    .select({ requestId, finishReason, completionTokens, timeToFirstTokenMs, totalMs, createdAt })
    .from(receipts)
    .where(
      and(
        eq(receipts.model, model),
        eq(receipts.maskVersion, maskVersion),
        notInArray(finishReason, ['cancelled', 'refused']),
        onlyOfWeights ? isOfWeights : undefined,
        gte(createdAt, fromMs),
        untilMs === undefined ? undefined : lt(createdAt, untilMs),
      ),
    )
    .orderBy(order(createdAt), order(requestId))
    .limit(limit)
  return take === 'first' ? rows : rows.reverse()
}
