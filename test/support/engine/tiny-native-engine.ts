import type { EngineOptions } from '../../../gpu-node/native/addon.d.ts'

/** The addon's engine of the smallest model, for tests that call the addon directly. */
export const TINY_NATIVE_ENGINE: EngineOptions = {
  threads: 1,
  precision: 'bf16',
  headPrecision: 'int8',
  model: {
    hidden: 8,
    layers: 1,
    heads: 2,
    kvHeads: 1,
    headDim: 4,
    intermediate: 6,
    vocab: 11,
    context: 32,
    eps: 1e-5,
    ropeFrequencies: Float64Array.of(1, 0.1),
  },
  pages: 4,
  batchTokens: 16,
}
