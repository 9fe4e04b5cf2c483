import { AppError } from '@copal/shared/errors.ts'
import {
  effectivePolicy,
  type AdaptationPolicy,
  type PolicyOverrides,
  type PolicyReport,
} from '@copal/shared/wire/admin-policy.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findPolicyOverrides, setPolicyOverrides } from '../../storage/db/queries/policy-queries.ts'
import { requireQuietHours } from './quiet-hours.ts'
import { requireSchedule } from './schedule.ts'

type PolicyDeps = Pick<Deps, 'db' | 'adaptationPreset' | 'nowMs'>

/** Describes the policy of a model that is in force. */
export async function policyReport(
  deps: Pick<Deps, 'db' | 'adaptationPreset'>,
  model: string,
): Promise<PolicyReport> {
  const overrides = (await findPolicyOverrides(deps.db, model)) ?? {}
  return { model, policy: effectivePolicy(deps.adaptationPreset, overrides), overrides }
}

/**
 * Replaces an operator's changes to the policy of a model, and records who changed what.
 *
 * @throws AppError `invalid_request` for values that contradict each other, and for a schedule that is none
 */
export async function setPolicy(
  deps: PolicyDeps,
  model: string,
  overrides: PolicyOverrides,
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
  const changes = describeChanges(before, policy)
  await setPolicyOverrides(
    deps.db,
    model,
    overrides,
    deps.nowMs(),
    changes.length === 0 ? undefined : { actor, reason: `Changed ${changes.join(', ')}.` },
  )
  return { model, policy, overrides }
}

/** Describes each value that differs, such as `gate.max_regression from 1.05 to 1.08`. */
function describeChanges(before: AdaptationPolicy, after: AdaptationPolicy): string[] {
  const old = new Map(valuesOf(before))
  return valuesOf(after).flatMap(([name, value]) =>
    old.get(name) === value ? [] : [`${name} from ${old.get(name)} to ${value}`],
  )
}

function valuesOf(policy: AdaptationPolicy): [string, string][] {
  return Object.entries(policy).flatMap(([part, value]): [string, string][] =>
    typeof value === 'object'
      ? Object.entries(value).map(([name, each]) => [`${part}.${name}`, JSON.stringify(each)])
      : [[part, JSON.stringify(value)]],
  )
}
