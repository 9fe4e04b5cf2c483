import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { TakeRequest } from '../../contracts/reservoir-object.ts'
import { bytesToTake, type TextDemand } from './text-sufficiency.ts'

/** Returns what an update of a model draws of each domain's pool. */
export function drawOf(
  { model, ...demand }: TextDemand & { model: string },
  { max_key_share: maxKeyShare, outlier_deviations: outlierDeviations }: AdaptationPolicy['influence'],
): Omit<TakeRequest, 'updateId'> {
  return { model, maxBytes: bytesToTake(demand), maxKeyShare, outlierDeviations }
}
