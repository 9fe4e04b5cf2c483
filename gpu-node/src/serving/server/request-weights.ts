/** Which weights answer a call, and how the answer names them. */
import { AppError } from '@copal/shared/errors.ts'
import { LATE_HEADER } from '@copal/shared/wire/node-calls.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { NodeServerDeps } from './node-server-deps.ts'

/** @throws AppError `model_not_found` for a model that this node does not serve */
export function requireModel({ model }: Pick<NodeServerDeps, 'model'>, requestedModel: string): void {
  if (requestedModel === model.id) return
  throw new AppError(
    'model_not_found',
    `The model '${requestedModel}' is not on this node, which serves '${model.id}'.`,
    { param: 'model' },
  )
}

/**
 * The weights that a call must be bound to from its beginning: those that it names, or, when it has several parts that
 * are one answer, those that are active now; null when it may start on whatever is active then.
 *
 * @throws AppError `no_node_available` when this node does not hold them now
 */
export function chooseWeights(
  deps: Pick<NodeServerDeps, 'engine' | 'weights'>,
  asked: { model: string; maskVersion?: number | undefined },
  parts: number,
): WeightSet | null {
  const { model, maskVersion } = asked
  if (maskVersion === undefined && parts <= 1) return null
  const weights = maskVersion === undefined ? deps.engine.active : deps.weights(maskVersion)
  if (weights) return weights
  const what =
    maskVersion === undefined ? 'any weights' : maskVersion === 0 ? 'dense weights' : `mask ${maskVersion}`
  throw new AppError('no_node_available', `This node does not hold ${what} of '${model}' now.`, {
    param: 'model',
    retryAfterS: 1,
  })
}

/** What `system_fingerprint` says: the model and the mask that made the answer. */
export function fingerprint(model: string, maskVersion: number): string {
  return `copal-${model}-m${maskVersion}`
}

/** Headers of an answer; of a late one, which weights will have made it is not known yet. */
export function responseHeaders(
  nodeId: string,
  domain: string,
  maskVersion: number | undefined,
): Record<string, string> {
  const mask: Record<string, string> =
    maskVersion === undefined ? { [LATE_HEADER]: 'true' } : { 'x-copal-mask': String(maskVersion) }
  return { ...mask, 'x-copal-node': nodeId, 'x-copal-domain': domain }
}
