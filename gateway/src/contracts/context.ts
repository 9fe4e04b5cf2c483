import type { ActiveKey } from '../storage/db/queries/key-queries.ts'
import type { Bindings, Deps } from '../deps.ts'
import type { Actor } from '../keys/key-grants.ts'
import type { KeyWatchOptions } from '../keys/key-watch.ts'
import type { Answered } from '../usage/limits/completed-requests.ts'
import type { RequestTrace } from '../telemetry/trace.ts'

/** The Hono environment of every route. */
export interface AppEnv {
  Bindings: Bindings
  Variables: {
    deps: Deps
    /** Unique, and safe to show: the answer's `x-request-id`. */
    requestId: string
    trace: RequestTrace
    answered: Answered
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
