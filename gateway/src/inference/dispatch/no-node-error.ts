import { AppError } from '@copal/shared/errors.ts'
import { formatModelName, type ModelName } from '@copal/shared/wire/model-name.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { DomainOwners } from '../../contracts/domain-owners.ts'
import { heldVersions } from '../../fleet/object/held-versions.ts'
import type { FailedAttempt, NoNode } from '../../contracts/acquire.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'

/** A request that got no node. */
export interface UndispatchedRequest {
  /** The message names only what it may use. */
  key: Pick<ActiveKey, 'allowedModels' | 'tenant'>
  domainOwners: DomainOwners
  name: ModelName
  none: NoNode
}

/** Creates the error of a request that got no node, before any attempt. */
export async function noNodeError(
  deps: Pick<Deps, 'db' | 'fleet' | 'keyTrustMs' | 'nowMs'>,
  { key, domainOwners, name, none }: UndispatchedRequest,
): Promise<AppError> {
  const { id, version } = name
  const retryAfterS = retryAfterSeconds(none.retryAfterMs)
  if (none.reason === 'full') {
    const message = `All nodes that serve '${id}' are busy, and the wait would be too long. Try again in ${retryAfterS} s.`
    return new AppError('overloaded', message, { retryAfterS })
  }
  const away = `No node that serves '${id}' is available now. Try again in ${retryAfterS} s.`
  // The fleet knows nodes of this model, so the database, which may be down too, is not needed.
  if (none.reason !== 'unknown' && version === undefined) return unavailable(away, retryAfterS)
  const registered = await listModels(deps.db)
  const model = registered.find((row) => row.id === id)
  if (model && version !== undefined) {
    const ofOthers = await domainOwners.ofOthers(deps, key.tenant)
    const held = [...heldVersions(await deps.fleet.snapshot(), id).keys()]
    const available = held.filter((other) => !ofOthers.includesWeights({ id, version: other }))
    return versionNotHeld(model, version, available, retryAfterS)
  }
  if (model) return unavailable(away, retryAfterS)
  const names = (none.servedModels.length > 0 ? none.servedModels : registered.map((row) => row.id)).filter(
    (served) => key.allowedModels?.includes(served) ?? true,
  )
  const available = names.length > 0 ? `Available models: ${quoted(names)}.` : 'No model is available.'
  return new AppError('model_not_found', `The model '${id}' does not exist. ${available}`, { param: 'model' })
}

/**
 * Creates the error of a request that failed on a node and got no other node.
 *
 * If the node returned an error, for example a 429 because its own queue is full, the client gets the code, the message
 * and the Retry-After of the node. The estimate of the fleet is used only if the node named no time.
 */
export function lastAttemptError(failed: FailedAttempt & { error: AppError }, none: NoNode): AppError {
  const { error } = failed
  const retryAfterS = error.retryAfterS ?? retryAfterSeconds(none.retryAfterMs)
  if (failed.how === 'broke') {
    const why =
      none.reason === 'retries'
        ? 'and too many requests are failing for this one to be retried.'
        : 'and no other node can take the request now.'
    const message = `Node '${failed.nodeId}' disconnected before it responded, ${why} Try again in ${retryAfterS} s.`
    return new AppError('no_node_available', message, { cause: error, retryAfterS })
  }
  return new AppError(error.code, error.message, { cause: error, retryAfterS })
}

/** The error when no node holds the named version: temporary if nodes are meant to hold it, else not found. */
function versionNotHeld(
  model: ModelRow,
  version: number,
  held: readonly number[],
  retryAfterS: number,
): AppError {
  const names = held.map((other) => formatModelName(model.id, other))
  const available = names.length > 0 ? `Available now: ${quoted(names)}.` : 'No version is available now.'
  const missing = `No node holds '${formatModelName(model.id, version)}'`
  return [0, model.activeVersion, model.previousVersion].includes(version)
    ? unavailable(`${missing} now. ${available} Try again in ${retryAfterS} s.`, retryAfterS)
    : new AppError('model_not_found', `${missing}. ${available}`, { param: 'model' })
}

function unavailable(message: string, retryAfterS: number): AppError {
  return new AppError('no_node_available', message, { retryAfterS })
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ')
}
