import type { Backend } from '../contract/backend.ts'
import type { ModelReference } from '../../pruning/runs/pruning-child-protocol.ts'
import { evaluateTexts, type EvaluationOptions } from '../../pruning/runs/evaluate-texts.ts'
import type { Evaluation } from '../../pruning/evaluation/evaluate-windows.ts'
import type { TextSource } from '../../pruning/evaluation/text-windows.ts'
import type { MaskStore } from '../masks/mask-store.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'

/** Perplexity of texts under any mask of the fleet, beside serving. */
export interface Evaluator {
  /**
   * Evaluations of this node take turns: each loads a weight set of its own and releases it afterwards.
   *
   * @param maskSha256 null is dense
   * @throws AppError as the mask store and `evaluateTexts` do; the reason of the signal
   */
  evaluate(
    maskSha256: string | null,
    sources: TextSource[],
    options: EvaluationOptions,
  ): Promise<Evaluation[]>
}

/** The set of an evaluation never serves, so it has none of the versions that requests are pinned to. */
const NOT_SERVED = -1

/** Composes the evaluator of a node. */
export function createEvaluator(deps: {
  backend: Backend
  model: DenseModel
  reference: ModelReference
  masks: Pick<MaskStore, 'ensure'>
}): Evaluator {
  const { backend, model, reference, masks } = deps
  let last: Promise<unknown> = Promise.resolve()

  async function run(
    maskSha256: string | null,
    sources: TextSource[],
    options: EvaluationOptions,
  ): Promise<Evaluation[]> {
    options.signal?.throwIfAborted()
    const target =
      maskSha256 === null
        ? { model, reference, version: 0, maskPath: null }
        : { model, reference, version: NOT_SERVED, maskPath: await masks.ensure(maskSha256, options.signal) }
    return evaluateTexts(backend, target, sources, options)
  }

  return {
    evaluate(maskSha256, sources, options) {
      const turn = last.then(() => run(maskSha256, sources, options))
      last = turn.catch(() => undefined)
      return turn
    },
  }
}
