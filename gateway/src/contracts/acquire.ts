/** Who goes first when the fleet is full. Batch requests also leave the nodes' own queues to interactive ones. */
export type Priority = 'interactive' | 'batch'

/** What one request asks of the fleet. */
export interface AcquireRequest {
  readonly model: string
  /** The version of its weights that shall answer; left out: the active one. */
  readonly version?: number | undefined
  /** Of this attempt. */
  readonly requestId: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  /** Whose turn it is when requests wait goes by tenants. */
  readonly tenant?: string | undefined
  readonly priority?: Priority | undefined
  /** Estimate of the prompt's tokens. */
  readonly promptTokens: number
  /** Keys of how its prompt begins, shortest first; see `prefix-keys.ts`. */
  readonly prefix?: readonly string[] | undefined
  /** Nodes that this request failed on: out until they are heard of again. */
  readonly exclude: readonly string[]
  /** The attempt before this one; told once. */
  readonly failed?: FailedAttempt | undefined
}

/**
 * A try on a node that came to nothing.
 *
 * - `broke`: its connection broke, so the node itself may be gone
 * - `cut`: the same after the answer had begun, so that what was given is still to be settled
 * - `failed`: it answered what no node should, an internal error too, or stopped working
 * - `full`: it takes nothing now
 * - `refused`: the request's own fault, or nobody waits for it any more
 */
export interface FailedAttempt {
  readonly requestId: string
  readonly nodeId: string
  readonly how: 'broke' | 'cut' | 'failed' | 'full' | 'refused'
}

/**
 * Why there is no node for a request.
 *
 * - `unknown`: no node of this model was heard of
 * - `absent`: none of them can take requests
 * - `full`: all that can have as many as they shall
 * - `retries`: the fleet fails so much that nothing is tried again
 * - `left`: nobody waits for it any more
 */
export interface NoNode {
  ok: false
  reason: 'unknown' | 'absent' | 'full' | 'retries' | 'left'
  /** When it is worth to come back, as far as is known. */
  retryAfterMs: number
  servedModels: string[]
}

/** The node for a request, or why there is none. */
export type Acquired =
  | {
      ok: true
      nodeId: string
      url: string
      maskVersion: number
      /** It is not what the node answers with by itself: the call must name it. */
      pinned?: true
      /** A version on trial that the node shall score the answer under too, if its text may be sampled. */
      shadow?: number
    }
  | NoNode
