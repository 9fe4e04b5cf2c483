/** Shape and constants of a LLaMA-family model, from GGUF metadata or `config.json`. */
export interface LlamaConfig {
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  ropeTheta: number
  ropeScaling: RopeScaling | null
  rmsNormEps: number
  contextLength: number
  /** Whether the head is the embedding matrix. */
  tiedEmbedding: boolean
  bosTokenId: number | null
  /** Token ids that end a generation. */
  eosTokenIds: number[]
}

export type RopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3'
      factor: number
      lowFreqFactor: number
      highFreqFactor: number
      originalContextLength: number
    }

/** The seven linears of a decoder block in forward order, as Hugging Face names them. */
export const BLOCK_LINEARS = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
] as const
export type BlockLinear = (typeof BLOCK_LINEARS)[number]

/** Tensor name of a linear's weight `[d_out, d_in]`: `model.layers.3.mlp.up_proj.weight`. */
export function linearName(layer: number, linear: BlockLinear): string {
  return `model.layers.${layer}.${linear}.weight`
}

/** `[d_out, d_in]` of a linear. */
export function linearShape(config: LlamaConfig, linear: BlockLinear): [rows: number, cols: number] {
  const { hiddenSize, intermediateSize, headDim, heads, kvHeads } = config
  switch (linear) {
    case 'self_attn.q_proj':
      return [heads * headDim, hiddenSize]
    case 'self_attn.k_proj':
    case 'self_attn.v_proj':
      return [kvHeads * headDim, hiddenSize]
    case 'self_attn.o_proj':
      return [hiddenSize, heads * headDim]
    case 'mlp.gate_proj':
    case 'mlp.up_proj':
      return [intermediateSize, hiddenSize]
    case 'mlp.down_proj':
      return [hiddenSize, intermediateSize]
  }
}

/** `[d_out, d_in]` of every linear of the model in forward order, by tensor name: all that a mask may mask. */
export function linearShapes(config: LlamaConfig): Map<string, readonly [rows: number, cols: number]> {
  const shapes = new Map<string, readonly [number, number]>()
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) shapes.set(linearName(layer, linear), linearShape(config, linear))
  }
  return shapes
}
