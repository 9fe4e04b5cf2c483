import type { ActiveKey, Actor, KeyWatchOptions } from './api-key.ts'
import type { Bindings, Deps } from './bindings.ts'
import type { RequestTrace } from './request-trace.ts'

/** The Hono environment of every route. */
export interface AppEnv {
  Bindings: Bindings
  Variables: {
    deps: Deps
    /** Unique, and safe to show: the answer's `x-request-id`. */
    requestId: string
    trace: RequestTrace
    answered: CompletedRequests
  }
}

/** The Hono environment behind `requireKey`. */
export interface KeyedEnv extends AppEnv {
  Variables: AppEnv['Variables'] & {
    key: ActiveKey
    /** How the key is looked at while the request runs. */
    keyWatch: KeyWatchOptions
  }
}

/** The Hono environment behind `requireActor`. */
export interface ActorEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { actor: Actor }
}

/**
 * Requests of an isolate that are answered, so that another of their key may run: told to the fleet with the next request
 * that asks there, or soon by themselves. One that gets lost ends with its receipt.
 */
export interface CompletedRequests {
  /** Keeps the event alive until the fleet is told, unless another's does it. */
  add(deps: Pick<Deps, 'fleet' | 'nowMs' | 'waitUntil'>, requestId: string): void
  /** What the fleet is not told yet, for who asks it now. */
  take(): string[]
}
