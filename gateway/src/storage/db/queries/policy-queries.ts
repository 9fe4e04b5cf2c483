import { eq } from 'drizzle-orm'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions, policies } from '../schema/masks.ts'

/** Returns the changes that an operator made to the policy of a model; undefined if there are none. */
export async function findPolicyOverrides(db: Database, model: string): Promise<PolicyOverrides | undefined> {
  const row = await db
    .select({ policy: policies.policy })
    .from(policies)
    .where(eq(policies.model, model))
    .get()
  return row?.policy
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
 */
export async function setPolicyOverrides(
  db: Database,
  model: string,
  policy: PolicyOverrides,
  nowMs: number,
  decision?: { actor: string; reason: string },
): Promise<void> {
  const changed = { policy, updatedAt: nowMs }
  const stored = db
    .insert(policies)
    .values({ model, ...changed })
    .onConflictDoUpdate({ target: policies.model, set: changed })
  const row = { model, kind: 'policy', verdict: 'done', createdAt: nowMs } as const
  await db.batch([stored, ...(decision ? [db.insert(decisions).values({ ...row, ...decision })] : [])])
}
