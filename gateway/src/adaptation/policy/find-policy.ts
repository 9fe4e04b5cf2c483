import { effectivePolicy, type AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findStoredPolicy } from '../../storage/db/queries/policy-queries.ts'

/** Returns the policy of a model that is in force: the preset of the deployment with the operator's changes. */
export async function findPolicy(
  deps: Pick<Deps, 'db' | 'adaptationPreset'>,
  model: string,
): Promise<AdaptationPolicy> {
  return effectivePolicy(deps.adaptationPreset, (await findStoredPolicy(deps.db, model)).overrides)
}
