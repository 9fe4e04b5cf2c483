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
import { findPolicyOverrides, setPolicyOverrides } from '../../storage/db/queries/policy-queries.ts'
import { requireOffered } from './offered-methods.ts'
import { requireQuietHours } from './quiet-hours.ts'
import { requireSchedule } from './schedule.ts'

type PolicyDeps = Pick<Deps, 'db' | 'fleet' | 'adaptationPreset' | 'nowMs'>

/** Describes the policy of a model that is in force. */
export async function policyReport(
  deps: Pick<Deps, 'db' | 'adaptationPreset'>,
  model: string,
): Promise<PolicyReport> {
  return reportOf(deps, model, (await findPolicyOverrides(deps.db, model)) ?? {})
}

function reportOf(
  { adaptationPreset: preset }: Pick<Deps, 'adaptationPreset'>,
  model: string,
  overrides: PolicyOverrides,
): PolicyReport {
  return {
    model,
    policy: effectivePolicy(preset, overrides),
    overrides,
    preset_policy: presetPolicy(preset, overrides),
    deployment_preset: preset,
  }
}

/**
 * Replaces an operator's changes to the policy of a model, and records who changed what.
 *
 * @throws AppError `invalid_request` for values that contradict each other, for a schedule that is none, and for a pruning method
 * that no live node offers
 */
export async function setPolicy(
  deps: PolicyDeps,
  model: string,
  overrides: PolicyOverrides,
  actor: string,
): Promise<PolicyReport> {
  const before = (await policyReport(deps, model)).policy
  const report = reportOf(deps, model, overrides)
  const { policy } = report
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
  await setPolicyOverrides(
    deps.db,
    model,
    overrides,
    deps.nowMs(),
    changes.length === 0 ? undefined : { actor, reason: `Changed ${changes.join(', ')}.` },
  )
  return report
}

/** Describes each value that differs, such as `gate.max_regression from 1.05 to 1.08`. */
function describeChanges(before: AdaptationPolicy, after: AdaptationPolicy): string[] {
  const old = new Map(policySettings(before))
  return policySettings(after).flatMap(([name, value]) => {
    const [from, to] = [JSON.stringify(old.get(name)), JSON.stringify(value)]
    return from === to ? [] : [`${name} from ${from} to ${to}`]
  })
}
