import { SETTINGS } from '@copal/shared/settings-table.ts'
import type { FleetPolicy, PolicyBindings } from '../../contracts/fleet-policy.ts'
import { readWholeNumber } from '../../runtime/variables.ts'

/** The environment variable of each policy field. */
export const POLICY_VARIABLES = {
  silentMs: 'COPAL_NODE_SILENT_MS',
  deadMs: 'COPAL_NODE_DEAD_MS',
  leaseMs: 'COPAL_LEASE_MS',
  connectMs: 'COPAL_CONNECT_TIMEOUT_MS',
  firstTokenMs: 'COPAL_FIRST_TOKEN_TIMEOUT_MS',
  idleMs: 'COPAL_IDLE_TIMEOUT_MS',
  totalMs: 'COPAL_TOTAL_TIMEOUT_MS',
  queueSize: 'COPAL_QUEUE_SIZE',
  queueMs: 'COPAL_QUEUE_TIMEOUT_MS',
  spillover: 'COPAL_PREFIX_SPILLOVER',
  nodeWaitMs: 'COPAL_NODE_WAIT_MS',
  cacheLookupMs: 'COPAL_CACHE_LOOKUP_MS',
} as const satisfies Record<keyof FleetPolicy, keyof PolicyBindings>

/** The policy if no variable is set. */
export const DEFAULT_POLICY: FleetPolicy = {
  silentMs: SETTINGS.COPAL_NODE_SILENT_MS.default,
  deadMs: SETTINGS.COPAL_NODE_DEAD_MS.default,
  leaseMs: SETTINGS.COPAL_LEASE_MS.default,
  connectMs: SETTINGS.COPAL_CONNECT_TIMEOUT_MS.default,
  firstTokenMs: SETTINGS.COPAL_FIRST_TOKEN_TIMEOUT_MS.default,
  idleMs: SETTINGS.COPAL_IDLE_TIMEOUT_MS.default,
  totalMs: SETTINGS.COPAL_TOTAL_TIMEOUT_MS.default,
  queueSize: SETTINGS.COPAL_QUEUE_SIZE.default,
  queueMs: SETTINGS.COPAL_QUEUE_TIMEOUT_MS.default,
  spillover: SETTINGS.COPAL_PREFIX_SPILLOVER.default,
  nodeWaitMs: SETTINGS.COPAL_NODE_WAIT_MS.default,
  cacheLookupMs: SETTINGS.COPAL_CACHE_LOOKUP_MS.default,
}

/**
 * Reads the policy from the Worker's variables.
 *
 * @throws AppError `internal_error` that names a variable that is not a whole number
 */
export function readPolicy(env: PolicyBindings): FleetPolicy {
  const policy = { ...DEFAULT_POLICY }
  for (const [name, variable] of Object.entries(POLICY_VARIABLES)) {
    const field = name as keyof FleetPolicy
    policy[field] = readWholeNumber(env, variable, DEFAULT_POLICY[field])
  }
  return policy
}
