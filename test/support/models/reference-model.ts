import type { LlamaConfig } from '../../../gpu-node/src/model/config/llama-config.ts'
import { referenceBlock, type Matrix, type Nudge } from './reference-block.ts'
import type { StoredTensor } from './safetensors-writer.ts'

/** Computes the last hidden states `[tokens, hidden]` of a LLaMA on one sequence, after the final norm, in plain f64. */
export function referenceHidden(
  config: LlamaConfig,
  tensors: ReadonlyMap<string, Pick<StoredTensor, 'values'>>,
  tokens: readonly number[],
  nudge?: Nudge,
): Matrix {
  const { hiddenSize } = config
  const embedding = tensors.get('model.embed_tokens.weight')!.values
  let hidden: Matrix = tokens.map((token) => [
    ...embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize),
  ])
  for (let layer = 0; layer < config.layers; layer++)
    hidden = referenceBlock(config, tensors, layer, hidden, nudge).hidden
  const gamma = tensors.get('model.norm.weight')!.values
  return hidden.map((row) => {
    const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + config.rmsNormEps)
    return row.map((v, i) => v * scale * gamma[i]!)
  })
}

/** Computes the logits `[tokens, vocab]` of a LLaMA on one sequence, in plain f64 and without any cache. */
export function referenceLogits(
  config: LlamaConfig,
  tensors: ReadonlyMap<string, Pick<StoredTensor, 'values'>>,
  tokens: readonly number[],
  nudge?: Nudge,
): Matrix {
  const { hiddenSize, vocabSize } = config
  const head = tensors.get(config.tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight')!.values
  return referenceHidden(config, tensors, tokens, nudge).map((row) =>
    Array.from({ length: vocabSize }, (_, token) =>
      row.reduce((sum, v, i) => sum + v * head[token * hiddenSize + i]!, 0),
    ),
  )
}

/** Computes the natural logarithms of the softmax of a row. */
export function logSoftmax(row: readonly number[]): number[] {
  const maximum = Math.max(...row)
  const logSumExp = maximum + Math.log(row.reduce((sum, v) => sum + Math.exp(v - maximum), 0))
  return row.map((v) => v - logSumExp)
}
