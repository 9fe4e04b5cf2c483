/** What a key or a tenant may use; what is not set is not limited. */
export interface Limits {
  requestsPerMinute?: number
  /** Prompt and completion together. */
  tokensPerMinute?: number
  /** Of a calendar month, UTC. */
  tokensPerMonth?: number
  /** Running at the same time. */
  concurrentRequests?: number
}

/** Something whose use is counted: a key, or its tenant. */
export interface LimitedAccount {
  kind: 'key' | 'tenant'
  name: string
  limits: Limits
}
