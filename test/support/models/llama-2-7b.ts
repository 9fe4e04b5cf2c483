import type { LlamaConfig } from '../../../gpu-node/src/model/config/llama-config.ts'

/** The shape of Llama 2 7B. */
export const LLAMA_2_7B: LlamaConfig = {
  vocabSize: 32_000,
  hiddenSize: 4096,
  intermediateSize: 11_008,
  layers: 32,
  heads: 32,
  kvHeads: 32,
  headDim: 128,
  ropeTheta: 10_000,
  ropeScaling: null,
  rmsNormEps: 1e-5,
  contextLength: 4096,
  tiedEmbedding: false,
  bosTokenId: 1,
  eosTokenIds: [2],
}
