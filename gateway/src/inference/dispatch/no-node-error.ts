import { AppError } from '@copal/shared/errors.ts'
import { formatModelName, type ModelName } from '@copal/shared/wire/model-name.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { heldVersions } from '../../fleet/object/held-versions.ts'
import type { NoNode } from '../../contracts/acquire.ts'

/** A request that got no node. */
export interface Undispatched {
  /** Models that the key may use; the message names no others. */
  allowed: readonly string[] | null
  name: ModelName
  none: NoNode
}

/** Creates the error of a request that got no node and has not been tried yet. */
export async function noNodeError(deps: Deps, { allowed, name, none }: Undispatched): Promise<AppError> {
  const { id, version } = name
  const retryAfterS = secondsUntilRetry(none)
  if (none.reason === 'full') {
    const message = `All nodes that serve '${id}' are busy, and as many requests wait as may. Try again in ${retryAfterS} s.`
    return new AppError('overloaded', message, { retryAfterS })
  }
  const away = `No node that serves '${id}' is available now. Try again in ${retryAfterS} s.`
  // Its nodes are known: no need for the database, which may be away too.
  if (none.reason !== 'unknown' && version === undefined) return unavailable(away, retryAfterS)
  const registered = await listModels(deps.db)
  const model = registered.find((row) => row.id === id)
  if (model && version !== undefined) return unheld(deps, model, version, retryAfterS)
  if (model) return unavailable(away, retryAfterS)
  const names = (none.servedModels.length > 0 ? none.servedModels : registered.map((row) => row.id)).filter(
    (served) => allowed?.includes(served) ?? true,
  )
  const served = names.length > 0 ? `Served here: ${quoted(names)}.` : 'No other model is served.'
  return new AppError('model_not_found', `The model '${id}' does not exist. ${served}`, { param: 'model' })
}

/** No node can take a request for one version: for now, if it is one that nodes are meant to hold. */
async function unheld(deps: Deps, model: ModelRow, version: number, retryAfterS: number): Promise<AppError> {
  const held = heldVersions(await deps.fleet.snapshot(), model.id)
  const names = [...held.keys()].map((other) => formatModelName(model.id, other))
  const told = names.length > 0 ? `Held now: ${quoted(names)}.` : 'No version is held now.'
  const asked = `No node holds '${formatModelName(model.id, version)}'`
  return [0, model.activeVersion, model.previousVersion].includes(version)
    ? unavailable(`${asked} now. ${told} Try again in ${retryAfterS} s.`, retryAfterS)
    : new AppError('model_not_found', `${asked}. ${told}`, { param: 'model' })
}

/** Seconds for Retry-After. */
export function secondsUntilRetry({ retryAfterMs }: NoNode): number {
  return Math.max(1, Math.ceil(retryAfterMs / 1000))
}

function unavailable(message: string, retryAfterS: number): AppError {
  return new AppError('no_node_available', message, { retryAfterS })
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ')
}
