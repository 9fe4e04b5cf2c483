/** Chooses the weights of a call, and names them in its response. */
import { AppError } from '@copal/shared/errors.ts'
import { LATE_HEADER } from '@copal/shared/wire/node-calls.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { NodeServerDeps } from './node-server-deps.ts'

/**
 * Checks that this node serves the requested model.
 *
 * @throws AppError `model_not_found`
 */
export function requireModel({ model }: Pick<NodeServerDeps, 'model'>, requestedModel: string): void {
  if (requestedModel === model.id) return
  throw new AppError(
    'model_not_found',
    `The model '${requestedModel}' is not on this node, which serves '${model.id}'.`,
    { param: 'model' },
  )
}

/**
 * Returns the weights that all parts of a call must use: those that it names, or, when it has several parts, those that
 * are active now. Null when the call may start on whichever weights are active at its first step.
 *
 * @throws AppError `no_node_available` when this node does not hold the weights
 */
export function chooseWeights(
  deps: Pick<NodeServerDeps, 'engine' | 'weights' | 'countUse'>,
  call: { model: string; domain: string; maskVersion?: number | undefined },
  parts: number,
): WeightSet | null {
  const { model, domain, maskVersion } = call
  deps.countUse?.(domain)
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

/** Returns the `system_fingerprint` of a response: the model and the mask that generated it. */
export function fingerprint(model: string, maskVersion: number): string {
  return `copal-${model}-m${maskVersion}`
}

/** Returns the headers of a response; an undefined `maskVersion` marks it as late, its weights not known yet. */
export function responseHeaders(
  nodeId: string,
  domain: string,
  maskVersion: number | undefined,
): Record<string, string> {
  const mask: Record<string, string> =
    maskVersion === undefined ? { [LATE_HEADER]: 'true' } : { 'x-copal-mask': String(maskVersion) }
  return { ...mask, 'x-copal-node': nodeId, 'x-copal-domain': domain }
}
