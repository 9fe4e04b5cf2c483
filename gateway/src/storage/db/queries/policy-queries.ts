import { eq, sql } from 'drizzle-orm'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions, policies } from '../schema/masks.ts'

/** The changes that operators made to the policy of a model. */
export interface StoredPolicy {
  overrides: PolicyOverrides
  /** Grows with each change; 0 before the first one. */
  revision: number
}

/** Returns the changes that operators made to the policy of a model. */
export async function findStoredPolicy(db: Database, model: string): Promise<StoredPolicy> {
  const row = await db.select().from(policies).where(eq(policies.model, model)).get()
  return { overrides: row?.policy ?? {}, revision: row?.updatedAt ?? 0 }
}

/** Returns the changes that operators made to the policies of all models, by model. */
export async function listPolicyOverrides(db: Database): Promise<Record<string, PolicyOverrides>> {
  const rows = await db
    .select({ model: policies.model, policy: policies.policy })
    .from(policies)
    .orderBy(policies.model)
  return Object.fromEntries(rows.map(({ model, policy }) => [model, policy]))
}

/**
 * Replaces the changes to the policy of a model.
 *
 * @param decision stored in the same transaction
 * @param revision if given, nothing is stored where the policy has another one
 * @returns the new revision; undefined if nothing was stored
 */
export async function setPolicyOverrides(
  db: Database,
  model: string,
  policy: PolicyOverrides,
  nowMs: number,
  { decision, revision }: { decision?: { actor: string; reason: string }; revision?: number } = {},
): Promise<number | undefined> {
  const current = sql`coalesce((select ${policies.updatedAt} from ${policies} where ${policies.model} = ${model}), 0)`
  const isUnchanged = revision === undefined ? sql`true` : sql`${current} = ${revision}`
  // The time is the revision, so it grows even where the clock does not.
  const stored = db
    .insert(policies)
    .select(
      sql`select ${model}, ${JSON.stringify(policy)}, max(${nowMs}, ${current} + 1) where ${isUnchanged}`,
    )
    .onConflictDoUpdate({
      target: policies.model,
      set: { policy: sql`excluded.policy`, updatedAt: sql`excluded.updated_at` },
    })
    .returning({ revision: policies.updatedAt })
  if (!decision) return (await stored)[0]?.revision
  const { actor, reason } = decision
  const row = sql`select null, ${model}, null, null, 'policy', 'done', ${reason}, '[]', ${actor}, ${nowMs} where ${isUnchanged}`
  const [, rows] = await db.batch([db.insert(decisions).select(row), stored])
  return rows[0]?.revision
}
