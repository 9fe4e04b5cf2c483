/** The priority of a request while the fleet is full. Batch requests also leave the nodes' own queues to interactive ones. */
export type Priority = 'interactive' | 'batch'

/** A request for a node, made once for each attempt. */
export interface AcquireRequest {
  readonly model: string
  /** The mask version that must serve the request; the active one if left out. */
  readonly version?: number | undefined
  /** The id of this attempt. */
  readonly requestId: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  /** Identifies the conversation: a canary answers all of its requests or none. The account is used if it is left out. */
  readonly conversation?: string | undefined
  /** The tenant; the fair queue alternates between tenants. */
  readonly tenant?: string | undefined
  readonly priority?: Priority | undefined
  /** The estimated number of prompt tokens. */
  readonly promptTokens: number
  /** Keys of the prefixes of its prompt, shortest first; see `prefix-keys.ts`. */
  readonly prefix?: readonly string[] | undefined
  /** Nodes that this request failed on; they are excluded until their next heartbeat. */
  readonly exclude: readonly string[]
  /** The previous attempt, if it failed; reported once. */
  readonly failed?: FailedAttempt | undefined
}

/**
 * A failed attempt on a node.
 *
 * - `broke`: the connection broke, so the node may be gone
 * - `cut`: the connection broke after the response had begun, so the output that was sent must still be settled
 * - `failed`: the node returned an invalid response or an internal error, or stopped working on the request
 * - `full`: the node accepts no requests now
 * - `refused`: the request or its tenant is at fault, or a part of the node that only some requests need is busy
 * - `ended`: the gateway ended it, because its client left or its response is too large; what the node has computed must
 *   still be settled
 */
export interface FailedAttempt {
  readonly requestId: string
  readonly nodeId: string
  readonly how: 'broke' | 'cut' | 'failed' | 'full' | 'refused' | 'ended'
}

/**
 * The reason that a request got no node.
 *
 * - `unknown`: no node of this model has registered
 * - `absent`: no node of the model can take requests
 * - `full`: every node that can take requests has its maximum
 * - `retries`: its tenant's share of the retry budget is used up, because too many of its requests fail
 * - `left`: its client has left
 */
export interface NoNode {
  ok: false
  reason: 'unknown' | 'absent' | 'full' | 'retries' | 'left'
  /** The estimated time after which a retry may succeed. */
  retryAfterMs: number
  servedModels: string[]
}

/** The node that was leased for a request, or the reason that there is none. */
export type AcquireResult =
  | {
      ok: true
      nodeId: string
      url: string
      maskVersion: number
      /** The version is not the node's active one, so the call must name it. */
      pinned?: true
      /** The version of a shadow; the node also scores the output under it if the text may be sampled. */
      shadow?: number
    }
  | NoNode
