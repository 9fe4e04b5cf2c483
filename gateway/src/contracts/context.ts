import type { ActiveKey, Actor, DashboardSession, KeyWatchOptions } from './api-key.ts'
import type { Bindings, Deps } from './bindings.ts'
import type { DomainOwners } from './domain-owners.ts'
import type { KnownRejections } from './known-rejections.ts'
import type { RequestTrace } from './request-trace.ts'

/** The Hono environment of every route. */
export interface AppEnv {
  Bindings: Bindings
  Variables: {
    deps: Deps
    /** A unique id that is safe to show: the `x-request-id` of the response. */
    requestId: string
    trace: RequestTrace
    completedRequests: CompletedRequests
    knownRejections: KnownRejections
    domainOwners: DomainOwners
  }
}

/** The Hono environment behind `requireKey`. */
export interface KeyedEnv extends AppEnv {
  Variables: AppEnv['Variables'] & {
    key: ActiveKey
    /** How the key is checked while the request runs. */
    keyWatch: KeyWatchOptions
  }
}

/** The Hono environment behind `requireActor`. */
export interface ActorEnv extends AppEnv {
  Variables: AppEnv['Variables'] & {
    actor: Actor
    /** The session that the request came with; undefined for a bearer token. */
    session: DashboardSession | undefined
    /** Checks whether the key of a running response is still valid. */
    actorInForce: () => Promise<boolean>
  }
}

/**
 * Completed requests of an isolate that the fleet does not know of yet. They no longer count as concurrent requests of
 * their key. They go to the fleet with the next request that asks it for a node, or by themselves soon after. A lost
 * report does no harm: the request ends with its receipt.
 */
export interface CompletedRequests {
  /** Adds a request and keeps the event alive until the report is sent, unless another event does so. */
  add(deps: Pick<Deps, 'fleet' | 'nowMs' | 'waitUntil'>, requestId: string): void
  /** Removes and returns the requests that are not reported yet, for a caller that reports them. */
  take(): string[]
}
