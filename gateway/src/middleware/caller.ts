import type { Actor, KeyRow } from '../contracts/api-key.ts'
import type { AppEnv } from '../contracts/context.ts'

/** The Hono environment of any route, with the caller where the route identifies it. */
export interface CallerEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { key?: KeyRow; actor?: Actor }
}

/** Returns the id of the caller's key; undefined for the operator's admin key, and where nothing identified a caller. */
export function callerKeyId({ key, actor }: CallerEnv['Variables']): string | undefined {
  return key?.id ?? (actor && actor.kind !== 'operator' ? actor.key.id : undefined)
}
