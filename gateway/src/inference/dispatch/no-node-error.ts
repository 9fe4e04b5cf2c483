import { AppError } from '@copal/shared/errors.ts'
import { formatModelName, type ModelName } from '@copal/shared/wire/model-name.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { heldVersions } from '../../fleet/object/held-versions.ts'
import type { NoNode } from '../../contracts/acquire.ts'

/** A request that got no node. */
export interface UndispatchedRequest {
  /** Models that the key may use, null for all; the message names no others. */
  allowed: readonly string[] | null
  name: ModelName
  none: NoNode
}

/** Creates the error of a request that got no node, before any attempt. */
export async function noNodeError(
  deps: Deps,
  { allowed, name, none }: UndispatchedRequest,
): Promise<AppError> {
  const { id, version } = name
  const retryAfterS = secondsUntilRetry(none)
  if (none.reason === 'full') {
    const message = `All nodes that serve '${id}' are busy and the queue is full. Try again in ${retryAfterS} s.`
    return new AppError('overloaded', message, { retryAfterS })
  }
  const away = `No node that serves '${id}' is available now. Try again in ${retryAfterS} s.`
  // The fleet knows nodes of this model, so the database, which may be down too, is not needed.
  if (none.reason !== 'unknown' && version === undefined) return unavailable(away, retryAfterS)
  const registered = await listModels(deps.db)
  const model = registered.find((row) => row.id === id)
  if (model && version !== undefined) return versionNotHeld(deps, model, version, retryAfterS)
  if (model) return unavailable(away, retryAfterS)
  const names = (none.servedModels.length > 0 ? none.servedModels : registered.map((row) => row.id)).filter(
    (served) => allowed?.includes(served) ?? true,
  )
  const available = names.length > 0 ? `Available models: ${quoted(names)}.` : 'No model is available.'
  return new AppError('model_not_found', `The model '${id}' does not exist. ${available}`, { param: 'model' })
}

/** The error when no node holds the named version: temporary if nodes are meant to hold it, else not found. */
async function versionNotHeld(
  deps: Deps,
  model: ModelRow,
  version: number,
  retryAfterS: number,
): Promise<AppError> {
  const held = heldVersions(await deps.fleet.snapshot(), model.id)
  const names = [...held.keys()].map((other) => formatModelName(model.id, other))
  const available = names.length > 0 ? `Available now: ${quoted(names)}.` : 'No version is available now.'
  const missing = `No node holds '${formatModelName(model.id, version)}'`
  return [0, model.activeVersion, model.previousVersion].includes(version)
    ? unavailable(`${missing} now. ${available} Try again in ${retryAfterS} s.`, retryAfterS)
    : new AppError('model_not_found', `${missing}. ${available}`, { param: 'model' })
}

/** Returns the seconds for the header `retry-after`. */
export function secondsUntilRetry({ retryAfterMs }: NoNode): number {
  return Math.max(1, Math.ceil(retryAfterMs / 1000))
}

function unavailable(message: string, retryAfterS: number): AppError {
  return new AppError('no_node_available', message, { retryAfterS })
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ')
}
