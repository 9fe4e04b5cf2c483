/** The limits of a key or a tenant; usage without a limit is unbounded. */
export interface Limits {
  requestsPerMinute?: number
  /** Prompt and completion tokens together. */
  tokensPerMinute?: number
  /** Tokens in a calendar month, UTC. */
  tokensPerMonth?: number
  /** Requests that run at the same time. */
  concurrentRequests?: number
}

/** Changes of limits: a number sets a limit, null removes it, undefined keeps it. */
export type LimitsPatch = { [Name in keyof Limits]?: number | null | undefined }

/** A key, by its id, or a tenant: what usage is charged to. */
export interface UsageOwner {
  kind: 'key' | 'tenant'
  name: string
}

/** A key or a tenant whose usage is counted. */
export interface LimitedAccount extends UsageOwner {
  limits: Limits
}
