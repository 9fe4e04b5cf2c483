import {
  effectivePolicy,
  policyOverrides,
  policyReport,
  presetPolicy,
  type PolicyOverrides,
  type PolicyReport,
} from '@copal/shared/wire/admin-policy.ts'
import { MODEL } from './service.ts'

const DEPLOYMENT = 'production'
let revision = 0
let set: PolicyOverrides = {
  triggers: { new_segments: 128, max_gap: 0.05 },
  discovery: { own_masks: true },
}

/** The policy, with what was set. */
export function policy(overrides: PolicyOverrides = set): PolicyReport {
  return {
    model: MODEL,
    revision,
    policy: effectivePolicy(DEPLOYMENT, overrides),
    overrides,
    preset_policy: presetPolicy(DEPLOYMENT, overrides),
    deployment_preset: DEPLOYMENT,
  }
}

/** Replaces what was set, until the server ends. Throws an error that names what is wrong. */
export function setPolicy(body: object): PolicyReport {
  const { model: _, revision: _revision, ...overrides } = { model: MODEL, revision, ...body }
  const parsed = policyOverrides.safeParse(overrides)
  if (!parsed.success)
    throw new Error(
      parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '),
    )
  set = parsed.data
  revision += 1
  return policy()
}

/** The part of the OpenAPI document that describes the policy. */
export function openApi() {
  return {
    components: { schemas: { Policy: policyReport.toJSONSchema({ io: 'output', reused: 'inline' }) } },
  }
}
