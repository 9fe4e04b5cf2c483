import { notConfigured } from '../../runtime/not-configured.ts'

/** How long the gateway waits for what, in milliseconds, and how many requests may wait. */
export interface FleetPolicy {
  /** Silence after which a node takes no more requests: three heartbeats. */
  silentMs: number
  /** Silence after which a node is taken for dead: its leases expire. */
  deadMs: number
  /** How long a lease lives without its node telling of progress; renewed by heartbeats. */
  leaseMs: number
  /** A node that does not name a request in a heartbeat composed so long after it was leased has not got it. */
  connectMs: number
  /** From the first step of an answer to its first token; how long it waits on its node does not count. */
  firstTokenMs: number
  /** A request that takes no step for so long is stalled. */
  idleMs: number
  /** From the call of a node to the end of an answer. */
  totalMs: number
  /** Requests that may wait for a full fleet. */
  queueSize: number
  /** How long they may wait. */
  queueMs: number
  /** Requests by which a node may be busier than the least loaded one and still get those whose prompt it has cached. */
  spillover: number
  /** How long a request waits for a node to come back when there is none that could take it. */
  nodeWaitMs: number
  /** How long the response cache may take to say whether it has an answer: the node may be as fast. */
  cacheLookupMs: number
}

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
} as const satisfies Record<keyof FleetPolicy, string>

/** Bindings that may hold a policy. */
export type PolicyBindings = Partial<Record<(typeof POLICY_VARIABLES)[keyof FleetPolicy], string>>

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

/** @throws AppError `internal_error` that names the variable when it is not a whole number */
export function readWholeNumber<Name extends string>(
  env: Partial<Record<Name, string>>,
  name: Name,
  standard: number,
): number {
  const text = env[name]
  if (text === undefined || text === '') return standard
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const unit = name.endsWith('_MS') ? 'in milliseconds' : name.endsWith('_DAYS') ? 'of days' : 'of requests'
  throw notConfigured(`the variable ${name} is '${text}'; a whole number is expected, ${unit}.`)
}

/**
 * The parts of a variable that has commas between them; none when it is not set.
 *
 * @param expected what each is to be, for the operator
 * @throws AppError `internal_error` that names the variable and a part that is not so
 */
export function readList<Name extends string>(
  env: Partial<Record<Name, string>>,
  name: Name,
  isGood: (part: string) => boolean,
  expected: string,
): string[] {
  const parts = (env[name] ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  const bad = parts.find((part) => !isGood(part))
  if (bad === undefined) return parts
  throw notConfigured(
    `the variable ${name} has '${bad}'; ${expected} are expected, with commas between them.`,
  )
}
