import { and, asc, desc, eq, type SQL } from 'drizzle-orm'
import type { DecisionKind } from '@copal/shared/wire/admin-decisions.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'

/** A decision about a mask, as stored. */
export type DecisionRow = typeof decisions.$inferSelect

/** The `actor` of decisions that no person made. */
export const SERVICE_ACTOR = 'copal'

/** By the index of a model's decisions: by their ids alone, all of the model would be read. */
const NEWEST_FIRST = [desc(decisions.createdAt), desc(decisions.id)]

/** Stores a decision. */
export async function insertDecision(db: Database, decision: typeof decisions.$inferInsert): Promise<void> {
  await db.insert(decisions).values(decision)
}

/** Returns the decisions of an update, oldest first. */
export async function listDecisionsOf(db: Database, updateId: string): Promise<DecisionRow[]> {
  return db.select().from(decisions).where(eq(decisions.updateId, updateId)).orderBy(asc(decisions.id))
}

/** Returns the latest decisions of a model, newest first, with the domains of their updates. */
export async function listRecentDecisions(
  db: Database,
  model: string,
  limit: number,
): Promise<{ decision: DecisionRow; domains: string[] | null }[]> {
  return db
    .select({ decision: decisions, domains: updates.domains })
    .from(decisions)
    .leftJoin(updates, eq(updates.id, decisions.updateId))
    .where(eq(decisions.model, model))
    .orderBy(...NEWEST_FIRST)
    .limit(limit)
}

/** Returns the last decision that made the active mask of a model active: its promotion, or the roll-back of another mask. */
export async function findActivation(
  db: Database,
  { id, activeVersion }: { id: string; activeVersion: number },
): Promise<DecisionRow | undefined> {
  const { kind, verdict, maskVersion } = decisions
  // By the index of their kinds, each: a mask may be active for long while gates reject many others.
  const lastOf = (of: DecisionKind, condition: SQL | undefined) =>
    db
      .select()
      .from(decisions)
      .where(and(eq(decisions.model, id), eq(kind, of), condition))
      .orderBy(...NEWEST_FIRST)
      .limit(1)
  const found = await db.batch([
    lastOf('promote', and(eq(verdict, 'done'), eq(maskVersion, activeVersion))),
    lastOf('roll_back', eq(verdict, 'done')),
    lastOf('watch', eq(verdict, 'failed')),
  ])
  return found.flat().toSorted((a, b) => b.createdAt - a.createdAt || b.id - a.id)[0]
}
