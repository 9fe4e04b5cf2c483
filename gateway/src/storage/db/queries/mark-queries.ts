import { and, desc, eq, gte, inArray, isNull, lt, or } from 'drizzle-orm'
import type { DecisionKind } from '@copal/shared/wire/admin-decisions.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'

/** A decision as a mark on the time axis of a chart. */
export type MarkedDecision = Awaited<ReturnType<typeof listMarkedDecisions>>[number]

/**
 * Returns the newest decisions of some kinds about a model in a time, newest first.
 *
 * @param about.domain leaves out decisions about the own masks of other domains
 */
export async function listMarkedDecisions(
  db: Database,
  about: { model: string; domain: string | undefined; kinds: readonly DecisionKind[] },
  { fromMs, toMs }: { fromMs: number; toMs: number },
  limit: number,
) {
  const { kind, verdict, reason, maskVersion, updateId, createdAt } = decisions
  return db
    .select({ kind, verdict, reason, maskVersion, updateId, createdAt, ownDomain: updates.ownDomain })
    .from(decisions)
    .leftJoin(updates, eq(updates.id, updateId))
    .where(
      and(
        eq(decisions.model, about.model),
        gte(createdAt, fromMs),
        lt(createdAt, toMs),
        inArray(kind, [...about.kinds]),
        about.domain === undefined
          ? undefined
          : or(isNull(updates.ownDomain), eq(updates.ownDomain, about.domain)),
      ),
    )
    .orderBy(desc(createdAt), desc(decisions.id))
    .limit(limit)
}
