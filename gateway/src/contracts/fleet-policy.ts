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

/** The variables that set a policy. */
export interface PolicyBindings {
  COPAL_NODE_SILENT_MS?: string
  COPAL_NODE_DEAD_MS?: string
  COPAL_LEASE_MS?: string
  COPAL_CONNECT_TIMEOUT_MS?: string
  COPAL_FIRST_TOKEN_TIMEOUT_MS?: string
  COPAL_IDLE_TIMEOUT_MS?: string
  COPAL_TOTAL_TIMEOUT_MS?: string
  COPAL_QUEUE_SIZE?: string
  COPAL_QUEUE_TIMEOUT_MS?: string
  COPAL_PREFIX_SPILLOVER?: string
  COPAL_NODE_WAIT_MS?: string
  COPAL_CACHE_LOOKUP_MS?: string
}
