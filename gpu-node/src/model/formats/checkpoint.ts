import { AppError } from '@copal/shared/errors.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../config/llama-config.ts'

/**
 * The weights of a downloaded model in any format, under their Hugging Face names. Values are read in pieces of rows, so
 * that no tensor has to fit in memory.
 */
export interface Checkpoint {
  /** Shape of every tensor that the file holds, row-major, `[d_out, d_in]` for a linear. */
  readonly shapes: ReadonlyMap<string, readonly number[]>
  /**
   * Rows `[first, first + rows)` of a tensor as f32; a vector is one row. For q and k of a GGUF,
   * `first` and `rows` are multiples of the head size.
   */
  readRows(name: string, first: number, rows: number): Promise<Float32Array>
  close(): Promise<void>
}

/** A tensor of the dense model, in the order in which the master file holds them. */
export interface ModelTensor {
  name: string
  shape: readonly number[]
}

/** Every tensor of a model: embedding, blocks in forward order, final norm, head unless it is tied. */
export function modelTensors(config: LlamaConfig): ModelTensor[] {
  const norm = [config.hiddenSize]
  const embedding = [config.vocabSize, config.hiddenSize]
  const tensors: ModelTensor[] = [{ name: 'model.embed_tokens.weight', shape: embedding }]
  for (let layer = 0; layer < config.layers; layer++) {
    tensors.push({ name: `model.layers.${layer}.input_layernorm.weight`, shape: norm })
    for (const linear of BLOCK_LINEARS) {
      tensors.push({ name: linearName(layer, linear), shape: linearShape(config, linear) })
    }
    tensors.push({ name: `model.layers.${layer}.post_attention_layernorm.weight`, shape: norm })
  }
  tensors.push({ name: 'model.norm.weight', shape: norm })
  if (!config.tiedEmbedding) tensors.push({ name: 'lm_head.weight', shape: embedding })
  return tensors
}

/** Tensors in some exports that only repeat what the configuration states. */
const REDUNDANT = /(^|\.)rotary_emb\.inv_freq$|^lm_head\.weight$/

/**
 * Checks that a checkpoint holds exactly the tensors of its configuration.
 *
 * @throws AppError `unsupported_model` naming the first tensor that is missing, has another shape, or
 * is one that a LLaMA model does not have (a bias, an expert, an adapter)
 */
export function checkTensors(
  config: LlamaConfig,
  shapes: ReadonlyMap<string, readonly number[]>,
  source: string,
): void {
  const expected = new Map(modelTensors(config).map(({ name, shape }) => [name, shape]))
  for (const [name, shape] of expected) {
    const found = shapes.get(name)
    if (found === undefined) {
      throw new AppError(
        'unsupported_model',
        `${source} holds no tensor ${name}: the file is incomplete. Fetch it again.`,
      )
    }
    if (found.length !== shape.length || found.some((size, axis) => size !== shape[axis])) {
      throw new AppError(
        'unsupported_model',
        `${source}: tensor ${name} has shape [${found.join(', ')}], but the configuration says [${shape.join(', ')}].`,
      )
    }
  }
  for (const name of shapes.keys()) {
    if (expected.has(name) || REDUNDANT.test(name)) continue
    throw new AppError(
      'unsupported_model',
      `${source} holds tensor ${name}, which no LLaMA model without biases, experts or adapters has. ` +
        'Only such models are supported.',
    )
  }
}
