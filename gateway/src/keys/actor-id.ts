import type { Actor } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'

/** Characters of the admin key's hash that tell one admin key from another; too few to find the key. */
const SHOWN_CHARACTERS = 8

/** Returns the id of a caller of the admin API for the record of what was decided. */
export function actorId(deps: Pick<Deps, 'adminKeySha256'>, actor: Actor): string {
  return actor.kind === 'operator' ? `admin-${deps.adminKeySha256.slice(0, SHOWN_CHARACTERS)}` : actor.key.id
}
