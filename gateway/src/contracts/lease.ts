/** A request that a node may be working on. It ends with the node's receipt, or expires. */
export interface Lease {
  readonly requestId: string
  readonly nodeId: string
  readonly model: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  readonly tenant?: string | undefined
  readonly maskVersion: number
  /** What the request is settled with if no receipt ever comes: as the node told last, before that an estimate. */
  readonly promptTokens: number
  readonly completionTokens: number
  readonly acquiredAtMs: number
  /** Its node told that it has it. */
  readonly named: boolean
  /** Its last step, as the node told; before that when it was leased. */
  readonly progressAtMs: number
  /** Since when it runs without a token, as its node told; left out while it waits there, and where none will come. */
  readonly tokenlessSinceMs?: number | undefined
  readonly expiresAtMs: number
  /** When its node, whose heartbeats are lost, last answered whoever watches over the request. */
  readonly answeredAtMs?: number
}

/**
 * Where a leased request is, by what its node told.
 *
 * - `sent`: its node has not told of it, and need not have
 * - `taken`: its node has told of it
 * - `missing`: its node has had the time to tell of it, and has not: it never arrived
 */
export type Whereabouts = 'sent' | 'taken' | 'missing'

/** How a leased request is, by what its node told. */
export interface LeaseView {
  /** Its node was not heard of for longer than nodes are. */
  silent: boolean
  where: Whereabouts
  /** Since its last step. */
  idleMs: number
  /** For how long it has run without a token; 0 while it waits, once it has one, and where none will come. */
  firstTokenWaitMs: number
}
