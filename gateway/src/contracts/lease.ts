/** The record that a node was given a request. It ends with the node's receipt, or expires. Stored with its node. */
export interface Lease {
  readonly requestId: string
  readonly nodeId: string
  readonly model: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  readonly tenant?: string | undefined
  readonly maskVersion: number
  /** The usage to settle if no receipt arrives: from the node's last report, before that an estimate. */
  readonly promptTokens: number
  readonly completionTokens: number
  readonly acquiredAtMs: number
  /** Whether a heartbeat of its node has listed it, of the present process of the node. */
  readonly named: boolean
  /** When the process of its node was replaced; left out unless that happened. */
  readonly replacedAtMs?: number
  /** The time of its last step as the node reported it; before that, the time of the lease. */
  readonly progressAtMs: number
  /** When it began to run without a token, as its node reported; left out while it waits there, and if none will come. */
  readonly tokenlessSinceMs?: number | undefined
  readonly expiresAtMs: number
  /** When its node, whose heartbeats are lost, last responded to a health check. */
  readonly answeredAtMs?: number
}

/**
 * The state of a leased request, from the reports of its node.
 *
 * - `sent`: the node has not reported it, and it is too early to expect that
 * - `taken`: the node has reported it
 * - `missing`: the node had time to report it and did not, so it never arrived
 */
export type LeaseState = 'sent' | 'taken' | 'missing'

/** The progress of a leased request, from the reports of its node. */
export interface LeaseView {
  /** Whether its node has missed its heartbeats. */
  silent: boolean
  state: LeaseState
  /** The time since its last step. */
  idleMs: number
  /** How long it has run without a token; 0 while it waits, once it has one, and if none will come. */
  firstTokenWaitMs: number
}
