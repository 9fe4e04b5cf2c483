import { AppError } from '@copal/shared/errors.ts'
import {
  effectivePolicy,
  presetPolicy,
  type AdaptationPolicy,
  type PolicyOverrides,
  type PolicyReport,
} from '@copal/shared/wire/admin-policy.ts'
import { policySettings } from '@copal/shared/wire/policy-settings.ts'
import type { Deps } from '../../contracts/bindings.ts'
import {
  findStoredPolicy,
  setPolicyOverrides,
  type StoredPolicy,
} from '../../storage/db/queries/policy-queries.ts'
import { requireOffered } from './offered-methods.ts'
import { requireQuietHours } from './quiet-hours.ts'
import { requireSchedule } from './schedule.ts'

type PolicyDeps = Pick<Deps, 'db' | 'fleet' | 'adaptationPreset' | 'nowMs'>

/** Describes the policy of a model that is in force. */
export async function policyReport(
  deps: Pick<Deps, 'db' | 'adaptationPreset'>,
  model: string,
): Promise<PolicyReport> {
  return reportOf(deps, model, await findStoredPolicy(deps.db, model))
}

function reportOf(
  { adaptationPreset: preset }: Pick<Deps, 'adaptationPreset'>,
  model: string,
  { overrides, revision }: StoredPolicy,
): PolicyReport {
  return {
    model,
    revision,
    policy: effectivePolicy(preset, overrides),
    overrides,
    preset_policy: presetPolicy(preset, overrides),
    deployment_preset: preset,
  }
}

/**
 * Replaces an operator's changes to the policy of a model, and records who changed what.
 *
 * @param given.revision that of the policy which the changes were made from; by default they replace whatever was set
 * @throws AppError `invalid_request` if values contradict each other, the schedule is not a cron expression, or no live node offers
 * the pruning method; `conflict` if the policy has another revision
 */
export async function setPolicy(
  deps: PolicyDeps,
  model: string,
  { overrides, revision }: { overrides: PolicyOverrides; revision?: number | undefined },
  actor: string,
): Promise<PolicyReport> {
  const before = (await policyReport(deps, model)).policy
  const policy = effectivePolicy(deps.adaptationPreset, overrides)
  const { min_minutes: min, max_minutes: max } = policy.canary
  if (min > max) {
    throw new AppError(
      'invalid_request',
      `'canary.min_minutes' is ${min}, but 'canary.max_minutes' is ${max}: a canary would end before it may. Choose a smaller minimum or a larger maximum.`,
      { param: 'canary.min_minutes' },
    )
  }
  const { schedule, quiet_hours: quietHours } = policy.triggers
  if (schedule !== null) requireSchedule(schedule, deps.nowMs())
  if (quietHours !== null) requireQuietHours(quietHours)
  const { method } = policy.selection
  if (method !== null && method !== before.selection.method)
    requireOffered(model, method, await deps.fleet.offeredMethods(model))
  const changes = describeChanges(before, policy)
  const stored = await setPolicyOverrides(deps.db, model, overrides, deps.nowMs(), {
    ...(revision === undefined ? {} : { revision }),
    ...(changes.length === 0 ? {} : { decision: { actor, reason: `Changed ${changes.join(', ')}.` } }),
  })
  if (stored !== undefined) return reportOf(deps, model, { overrides, revision: stored })
  throw new AppError(
    'conflict',
    `The policy of '${model}' was changed since it had the revision ${revision}, and nothing of this call was stored. Get it ` +
      "again with 'GET /admin/policy', and send the changes with the revision that it has now.",
    { param: 'revision' },
  )
}

/** Describes each value that differs, such as `gate.max_regression from 1.05 to 1.08`. */
function describeChanges(before: AdaptationPolicy, after: AdaptationPolicy): string[] {
  const old = new Map(policySettings(before))
  return policySettings(after).flatMap(([name, value]) => {
    const [from, to] = [JSON.stringify(old.get(name)), JSON.stringify(value)]
    return from === to ? [] : [`${name} from ${from} to ${to}`]
  })
}
