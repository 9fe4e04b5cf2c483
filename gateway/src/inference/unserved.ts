import { AppError } from '@copal/shared/errors.ts'
import { nameOfVersion, type ModelName } from '@copal/shared/wire/model-name.ts'
import { listModels, type ModelRow } from '../db/queries/models.ts'
import type { Deps } from '../deps.ts'
import { heldVersions } from '../fleet/held.ts'
import type { Acquired } from '../fleet/state.ts'

/** Two heartbeats and a bit: a node that was restarted is back by then. */
export const RETRY_AFTER_S = 5

/**
 * Why there is no node for a request that has not been tried yet.
 *
 * @param allowed models that the key may use; it hears of no others
 */
export async function unserved(
  deps: Deps,
  allowed: readonly string[] | null,
  name: ModelName,
  none: Extract<Acquired, { ok: false }>,
): Promise<AppError> {
  const { id, version } = name
  const registered = await listModels(deps.db)
  const model = registered.find((row) => row.id === id)
  if (model && version !== undefined) return unheld(deps, model, version)
  if (model || none.known) {
    return noNode(`No node that serves '${id}' is available now. Try again in ${RETRY_AFTER_S} s.`)
  }
  const names = (none.servedModels.length > 0 ? none.servedModels : registered.map((row) => row.id)).filter(
    (served) => allowed?.includes(served) ?? true,
  )
  const served = names.length > 0 ? `Served here: ${quoted(names)}.` : 'No other model is served.'
  return new AppError('model_not_found', `The model '${id}' does not exist. ${served}`, { param: 'model' })
}

/** No node can take a request for one version: for now, if it is one that nodes are meant to hold. */
async function unheld(deps: Deps, model: ModelRow, version: number): Promise<AppError> {
  const held = heldVersions(await deps.fleet.snapshot(), model.id)
  const names = [...held.keys()].map((other) => nameOfVersion(model.id, other))
  const told = names.length > 0 ? `Held now: ${quoted(names)}.` : 'No version is held now.'
  const asked = `No node holds '${nameOfVersion(model.id, version)}'`
  return [0, model.activeVersion, model.previousVersion].includes(version)
    ? noNode(`${asked} now. ${told} Try again in ${RETRY_AFTER_S} s.`)
    : new AppError('model_not_found', `${asked}. ${told}`, { param: 'model' })
}

/** Nobody can take a request now. */
export function noNode(message: string, cause?: unknown): AppError {
  return new AppError('no_node_available', message, { cause, retryAfterS: RETRY_AFTER_S })
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ')
}
