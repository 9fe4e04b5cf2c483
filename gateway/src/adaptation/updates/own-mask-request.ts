import { AppError } from '@copal/shared/errors.ts'
import { MAX_OWN_MASKS } from '@copal/shared/wire/heartbeat.ts'
import type { UpdateRequest } from '@copal/shared/wire/admin.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { createUpdate, type UpdateCause } from './update-requests.ts'
import type { StepDeps } from './update-step.ts'

/** The weight of each other domain in the selection of a mask of one domain, whose own weight is 1. */
const OTHER_WEIGHT = 0.05

/**
 * Stores an update that makes a mask for one domain alone. It serves that domain if it is better there than the shared mask
 * by what the policy demands.
 *
 * @param cause what starts it by itself; undefined for an operator
 * @throws AppError `conflict` while the policy allows no such masks, while the dense model serves, or if there are too many;
 * the errors of {@link createUpdate}
 */
export async function createOwnMaskUpdate(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'reservoir' | 'adaptationPreset' | 'nowMs'>,
  domain: string,
  request: Omit<UpdateRequest, 'domains'>,
  cause?: UpdateCause,
): Promise<UpdateRow> {
  const model = await findOperatorModel(deps.db, request.model)
  if (!(await findPolicy(deps, model.id)).discovery.own_masks) {
    throw new AppError(
      'conflict',
      `The policy of '${model.id}' allows no masks of single domains. To allow them: npx copal policy set discovery.own_masks=true`,
    )
  }
  if (model.activeVersion === 0) {
    throw new AppError(
      'conflict',
      `'${model.id}' serves the dense model, and no mask is better than that. Start an update for all domains first.`,
    )
  }
  const others = [...model.domainVersions.keys()].filter((name) => name !== domain)
  if (others.length >= MAX_OWN_MASKS) {
    throw new AppError(
      'conflict',
      `'${model.id}' has masks for ${others.length} domains already, the maximum.`,
    )
  }
  const counted = await listCountedDomains(deps.db, model.id)
  const weights = { ...Object.fromEntries([...counted].map((name) => [name, OTHER_WEIGHT])), [domain]: 1 }
  return createUpdate(deps, { ...request, model: model.id, domains: [domain] }, cause, { domain, weights })
}
