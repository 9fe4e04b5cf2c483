import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { Acquired, AcquireRequest, FailedAttempt, NoNode } from './acquire.ts'
import type { LeaseView } from './lease.ts'
import type { FleetSnapshot } from './node-view.ts'
import type { Rates, LimitRejection, ReservationRequest } from './reservation.ts'
import type { Trials } from './trial.ts'

/** Which limit, or why no node, refused a request; `left`: nobody refused it, its client went while it waited. */
export type RejectionReason = LimitRejection['limit'] | NoNode['reason']

/** Requests of a tenant for a model that were refused for one reason. */
export interface RejectionCount {
  tenant: string
  model: string
  reason: RejectionReason
  requests: number
}

/** What a request with limits reserves in the same call that leases its node. */
export type LimitedRequest = Pick<ReservationRequest, 'accounts' | 'maxTokens' | 'prompts' | 'choices'> & {
  /** The same over all attempts. */
  requestId: string
}

/** What a request asks of the fleet in its one call. */
export type AdmissionRequest = AcquireRequest & {
  limits?: LimitedRequest
  /** Requests that are answered meanwhile, so that another may run. */
  answered?: readonly string[]
}

/** The node for a request, why there is none, or why the request may not run. */
export type AdmissionResult =
  | (Extract<Acquired, { ok: true }> & { maxTokens?: number | null; rates?: Rates })
  | (Extract<Acquired, { ok: false }> & { refusal?: undefined })
  | { ok: false; refusal: LimitRejection }

/** A settled request and the tokens that it used, prompt and answer together. */
export interface Settlement {
  requestId: string
  tokens: number
  /** The node did it, and can do more. */
  done: boolean
}

/**
 * The Durable Object that knows the nodes, the leases and the used limits, as its callers see it.
 * Implemented by `fleet/object/fleet.ts`.
 */
export interface FleetObject extends Rpc.DurableObjectBranded {
  /**
   * Registers or renews a node; `desiredVersion` is what D1 says its model shall be served with, beside `trials`.
   *
   * @param desiredVersion undefined while D1 does not answer: what it said last holds
   * @returns `known`: false when D1 must be asked first, because the node or its weights were not seen before;
   * `registered`: whether the pruning methods of its process are known, so that heartbeats need not name them;
   * `drained`: whether the operator drains the node; `replaced`: another process has its name now, and nothing of this
   * heartbeat was taken
   */
  heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    trials?: Trials,
  ): Promise<{ known: boolean; registered: boolean; drained: boolean; replaced?: true }>

  /**
   * Has a node take no new requests, or take them again; what runs on it goes on. It holds until the node is started again.
   *
   * @returns false for a node that is not known
   */
  drain(nodeId: string, drained: boolean): Promise<boolean>

  /**
   * Leases the best node for one request, when it is its turn; one with limits is reserved first, or refused without
   * consuming anything.
   */
  acquire(request: AdmissionRequest): Promise<AdmissionResult>

  /** Requests with limits that run no more; those that gave their clients nothing are charged nothing. */
  finish(requestIds: readonly string[], gaveNothing: boolean): void

  /** Takes note of an attempt that failed and is not followed by another. */
  fail(attempt: FailedAttempt): void

  /**
   * The client of an attempt left while it waited for its node: it waits no more, or the node that it got meanwhile
   * is free again. Nothing of it ran, and what ran of the attempts before gave the client nothing, so nothing is charged.
   *
   * @param requestId of what is reserved; undefined for a request without limits
   */
  abandon(leaseId: string, requestId?: string): void

  /** How a leased request is; undefined when it is settled. */
  look(leaseId: string): LeaseView | undefined

  /** The silent node of a leased request answers whoever watches over it: the request goes on, and what it reserved. */
  touch(leaseId: string): void

  /** Ends the leases of settled requests, and charges them what they used. */
  settle(settlements: readonly Settlement[]): void

  /**
   * Those of some attempts after which their requests were tried again.
   *
   * @param failed those that their nodes failed at: the gateway hears of it when the receipt is written, which may come
   * here before what it asks then, so they are waited for while nobody told what becomes of them
   */
  superseded(attemptIds: readonly string[], failed: readonly string[]): Promise<string[]>

  /** All nodes that are remembered. */
  snapshot(): FleetSnapshot

  /** Requests that got no node since this object started. */
  refusals(): RejectionCount[]

  /** The version that would answer an API key now; undefined when no node of the model is known. */
  versionFor(model: string, account: string): number | undefined

  /** The pruning methods that the nodes of a model can choose masks by; null when none of them is alive. */
  offeredMethods(model: string): string[] | null

  /** The pruning methods that a node offers; none where it has not registered them. */
  methodsOf(nodeId: string): readonly string[]

  /** Stores what was counted and is not stored yet; happens by itself soon after. */
  saveCounts(): Promise<void>
}
