import type { Backend } from '../contract/backend.ts'
import type { ModelReference } from '../../pruning/runs/pruning-child-protocol.ts'
import {
  evaluateTexts,
  type EvaluationOptions,
  type TextEvaluation,
} from '../../pruning/runs/evaluate-texts.ts'
import type { TextSource } from '../../pruning/evaluation/text-windows.ts'
import { createFairSerialQueue } from '../../platform/fair-serial-queue.ts'
import type { MaskStore } from '../masks/mask-store.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'

/** Measures the perplexity of texts under any mask of the fleet, beside serving. */
export interface MaskEvaluator {
  /**
   * Evaluates texts. Evaluations of a node run one at a time; each loads its own weight set and releases it afterwards.
   * Aborting ends it at once, also while it waits for another one.
   *
   * @param maskSha256 hash of the mask; null is dense
   * @throws AppError as the mask store and `evaluateTexts` do; after an abort `client_closed_request` or the reason of the signal
   */
  evaluate(
    maskSha256: string | null,
    sources: TextSource[],
    options: EvaluationOptions,
  ): Promise<TextEvaluation>
}

/** Version of the weight set of an evaluation. The set never serves, so its version is not one that requests can name. */
const UNSERVED_VERSION = -1

/** Creates the evaluator of a node. */
export function createMaskEvaluator(deps: {
  backend: Backend
  model: DenseModel
  reference: ModelReference
  masks: Pick<MaskStore, 'ensure'>
}): MaskEvaluator {
  const { backend, model, reference, masks } = deps
  const queue = createFairSerialQueue('texts to evaluate')

  async function run(
    maskSha256: string | null,
    sources: TextSource[],
    options: EvaluationOptions,
  ): Promise<TextEvaluation> {
    options.signal?.throwIfAborted()
    const target =
      maskSha256 === null
        ? { model, reference, version: 0, maskPath: null }
        : {
            model,
            reference,
            version: UNSERVED_VERSION,
            maskPath: await masks.ensure(maskSha256, options.signal),
          }
    return evaluateTexts(backend, target, sources, options)
  }

  return {
    evaluate: (maskSha256, sources, options) =>
      queue.run(() => run(maskSha256, sources, options), {}, options.signal),
  }
}
