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
export const DEFAULT_POLICY: FleetPolicy = readPolicy({})

/**
 * Reads the policy from the Worker's variables.
 *
 * @throws AppError `internal_error` that names a variable that is not a whole number
 */
export function readPolicy(env: PolicyBindings): FleetPolicy {
  const fields = Object.entries(POLICY_VARIABLES).map(([field, name]) => [field, readWholeNumber(env, name)])
  return Object.fromEntries(fields) as FleetPolicy
}
