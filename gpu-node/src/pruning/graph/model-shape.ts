import type { ModelShape } from '../../../native/addon.d.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { ropeFrequencies } from './rope.ts'

/** Returns the shape and constants of a model, as the addons take them. */
export function modelShape(config: LlamaConfig): ModelShape {
  return {
    hidden: config.hiddenSize,
    layers: config.layers,
    heads: config.heads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    intermediate: config.intermediateSize,
    vocab: config.vocabSize,
    context: config.contextLength,
    eps: config.rmsNormEps,
    ropeFrequencies: Float64Array.from(ropeFrequencies(config)),
  }
}
