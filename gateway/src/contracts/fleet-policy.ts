/** Timeouts of the gateway in milliseconds, and bounds of its queue. */
export interface FleetPolicy {
  /** The silence after which a node gets no more requests: three heartbeats. */
  silentMs: number
  /** The silence after which a node counts as dead and its leases expire. */
  deadMs: number
  /** The lifetime of a lease without progress; heartbeats that report progress renew it. */
  leaseMs: number
  /** The time after which a heartbeat must list a leased request; otherwise the request never reached the node. */
  connectMs: number
  /** The time from the first step of a request to its first token; waiting on the node does not count. */
  firstTokenMs: number
  /** The time without a step after which a request counts as stalled. */
  idleMs: number
  /** The time from the call of a node to the end of its response. */
  totalMs: number
  /** The maximum number of requests that wait while the fleet is full. */
  queueSize: number
  /** The maximum time that they wait. */
  queueMs: number
  /** How many more requests than the least loaded node a node may have and still be preferred for a cached prefix. */
  spillover: number
  /** How long a request waits for a node to return if none can take it. */
  nodeWaitMs: number
  /** The timeout of a response cache lookup: a node may be as fast. */
  cacheLookupMs: number
}

/** The environment variables that set a policy. */
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
