import type { FleetPolicy, PolicyBindings } from '../../contracts/fleet-policy.ts'
import { readWholeNumber } from '../../runtime/variables.ts'

/** The variables that change a policy, by its field. */
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

export const DEFAULT_POLICY: FleetPolicy = {
  silentMs: 6_000,
  deadMs: 30_000,
  leaseMs: 120_000,
  connectMs: 5_000,
  firstTokenMs: 100_000,
  idleMs: 60_000,
  totalMs: 1_800_000,
  queueSize: 512,
  queueMs: 20_000,
  // Half of what a node runs at once by default.
  spillover: 4,
  nodeWaitMs: 4_000,
  cacheLookupMs: 500,
}

/**
 * The policy that the Worker's variables set.
 *
 * @throws AppError `internal_error` that names the variable which is not a whole number
 */
export function readPolicy(env: PolicyBindings): FleetPolicy {
  const policy = { ...DEFAULT_POLICY }
  for (const [name, variable] of Object.entries(POLICY_VARIABLES)) {
    const field = name as keyof FleetPolicy
    policy[field] = readWholeNumber(env, variable, DEFAULT_POLICY[field])
  }
  return policy
}
