import { asc, desc, eq } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { decisions } from '../schema/masks.ts'

/** A decision about a mask, as stored. */
export type DecisionRow = typeof decisions.$inferSelect

/** The `actor` of decisions that no person made. */
export const SERVICE_ACTOR = 'copal'

/** Stores a decision. */
export async function insertDecision(db: Database, decision: typeof decisions.$inferInsert): Promise<void> {
  await db.insert(decisions).values(decision)
}

/** Returns the decisions of an update, oldest first. */
export async function listDecisionsOf(db: Database, updateId: string): Promise<DecisionRow[]> {
  return db.select().from(decisions).where(eq(decisions.updateId, updateId)).orderBy(asc(decisions.id))
}

/** Returns the latest decisions of a model, newest first. */
export async function listDecisions(db: Database, model: string, limit: number): Promise<DecisionRow[]> {
  return db
    .select()
    .from(decisions)
    .where(eq(decisions.model, model))
    .orderBy(desc(decisions.id))
    .limit(limit)
}
