import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { AcquireResult, AcquireRequest, FailedAttempt, NoNode } from './acquire.ts'
import type { LeaseView } from './lease.ts'
import type { FleetSnapshot } from './node-view.ts'
import type { Rates, LimitRejection, ReservationRequest } from './reservation.ts'
import type { Trials } from './trial.ts'

/** The limit that rejected a request, or the reason that it got no node; `left` is no rejection: its client left. */
export type RejectionReason = LimitRejection['limit'] | NoNode['reason']

/** The use of a signature by a node. */
export interface SignatureUse {
  nodeId: string
  /** The signature itself, which differs for each time, path and body. */
  mac: string
  signedAtMs: number
}

/** The number of requests of a tenant for a model that were rejected for one reason. */
export interface RejectionCount {
  tenant: string
  model: string
  reason: RejectionReason
  requests: number
}

/** The usage that a limited request reserves in the same call that leases its node. */
export type LimitedRequest = Pick<ReservationRequest, 'accounts' | 'maxTokens' | 'prompts' | 'choices'> & {
  /** The id of the request, the same for all its attempts. */
  requestId: string
}

/** The call by which a request reserves its usage and leases its node. */
export type AdmissionRequest = AcquireRequest & {
  limits?: LimitedRequest
  /** Other requests that have completed and no longer count as concurrent. */
  completedRequests?: readonly string[]
  /** Requests that an isolate has rejected without a call, since it last reported them. */
  rejectedRequests?: readonly RejectionCount[]
}

/** The node for a request, the reason that there is none, or the limit that the request exceeds. */
export type AdmissionResult =
  | (Extract<AcquireResult, { ok: true }> & { maxTokens?: number | null; rates?: Rates })
  | (Extract<AcquireResult, { ok: false }> & { rejection?: undefined })
  | { ok: false; rejection: LimitRejection }

/** A settled request and the tokens that it used, prompt and output together. */
export interface Settlement {
  requestId: string
  tokens: number
  /** Whether the node completed the request. */
  succeeded: boolean
}

/** Attempts of which the client got no output. */
export interface FailedAttempts {
  /** Their requests were sent to another node. */
  superseded: string[]
  /** They were the last attempts of their requests. */
  undelivered: string[]
}

/**
 * The Durable Object that tracks the nodes, their leases and the usage of limited keys and tenants.
 * Implemented by `fleet/object/fleet.ts`.
 */
export interface FleetObject extends Rpc.DurableObjectBranded {
  /**
   * Registers or renews a node. `desiredVersion` and `trials` are the desired state of its model in D1.
   *
   * @param desiredVersion undefined while D1 does not respond: the last known version stays
   * @returns `known`: false if D1 must be asked first, because the node or its weights are new; `registered`: whether
   * the pruning methods of its process are known, so that heartbeats need not list them; `drained`: whether the
   * operator drains the node; `replaced`: another process uses the name now, and this heartbeat was ignored;
   * `replayed`: its signature was used before, and it was ignored
   */
  heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    trials?: Trials,
    signature?: SignatureUse,
  ): Promise<{ known: boolean; registered: boolean; drained: boolean; replaced?: true; replayed?: true }>

  /** Records the use of the signature of a call; returns false if it was used before, also by a heartbeat. */
  useSignature(signature: SignatureUse): boolean

  /**
   * Stops new requests to a node, or allows them again. Running requests continue. Lasts until the node restarts.
   *
   * @returns false if the node is unknown
   */
  drain(nodeId: string, drained: boolean): Promise<boolean>

  /**
   * Leases the best node for a request, after waiting in the queue if needed. Reserves the usage of a limited request
   * first; a request over a limit is rejected and uses nothing.
   */
  acquire(request: AdmissionRequest): Promise<AdmissionResult>

  /** Ends limited requests that no longer run; if `gaveNothing`, their clients got no output and nothing is charged. */
  finish(requestIds: readonly string[], gaveNothing: boolean): void

  /** Records a failed attempt that is not retried. */
  fail(attempt: FailedAttempt): void

  /**
   * Ends an attempt whose client left while it waited for a node: removes it from the queue, or ends the lease that it
   * got meanwhile. It never ran, and earlier attempts sent the client nothing, so nothing is charged.
   *
   * @param requestId the id of the reservation; undefined for a request without limits
   */
  abandon(leaseId: string, requestId?: string): void

  /** Returns the state of a leased request; undefined if it is settled. */
  leaseView(leaseId: string): LeaseView | undefined

  /** Renews the lease and the reservation of a request whose node sends no heartbeats but responds to health checks. */
  touch(leaseId: string): void

  /** Ends the leases of settled requests and charges the tokens that they used. */
  settle(settlements: readonly Settlement[]): void

  /**
   * Returns which of the given attempts failed before their clients got any output.
   *
   * @param failed the attempts that failed on their nodes. Their receipts may arrive before the retries that supersede
   * them, so the call waits a moment until each is retried or given up.
   */
  findFailed(attemptIds: readonly string[], failed: readonly string[]): Promise<FailedAttempts>

  /** Returns all remembered nodes. */
  snapshot(): FleetSnapshot

  /** Returns how requests got their nodes since this object started, and the state of the circuit breakers. */
  dispatchMetrics(): MetricFamily[]

  /** Returns the counts of rejected requests since this object started. */
  rejectionCounts(): RejectionCount[]

  /**
   * Returns the version that would serve a conversation of a domain now; undefined if no node of the model is known.
   *
   * @param request its `conversation` as in `acquire`: the id of the conversation, or the account
   */
  versionFor(request: Pick<AcquireRequest, 'model' | 'conversation' | 'domain'>): number | undefined

  /** Returns the pruning methods that the nodes of a model offer; null if no node of it is alive. */
  offeredMethods(model: string): string[] | null

  /** Returns those of some nodes that offer a pruning method. A node offers none until it registers them. */
  nodesWithMethod(nodeIds: readonly string[], method: string): string[]

  /** Stores changes of the ledger now; otherwise they are stored soon after by themselves. */
  saveCounts(): Promise<void>
}
