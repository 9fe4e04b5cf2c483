import type { LlamaConfig } from '../config/llama-config.ts'
import type { LayerSensitivity } from '../sensitivities/layer-sensitivity.ts'
import type { RowSensitivity } from '../sensitivities/row-sensitivity.ts'
import type { TextCodec } from '../tokenizer/text-codec.ts'

/** Location of one tensor in the master file: f32 little-endian, row-major, `offset` from the start of the file. */
export interface MasterTensor {
  shape: readonly number[]
  offset: number
  bytes: number
}

/**
 * The dense weights from which every mask is selected and every weight set is made: one safetensors file of f32 tensors
 * under their Hugging Face names, in the model cache. It is converted once from the downloaded format and never modified.
 * Rows of q and k are in Hugging Face (half-split) rotary order, whatever the order of the source.
 */
export interface DenseMaster {
  path: string
  tensors: ReadonlyMap<string, MasterTensor>
  /** SHA-256 over the dense linear weights in forward order; a mask file's `base_sha256` must equal it. */
  baseSha256: string
}

/** A loaded model without a session: plain data that is cheap to hold. */
export interface DenseModel {
  /** Public name: `smollm2-135m-instruct`. */
  id: string
  config: LlamaConfig
  master: DenseMaster
  codec: TextCodec
  /** The `TokenizerDescription` of the codec as JSON, for a thread with one of its own: as objects it would slow every collection of garbage. */
  tokenizer: string
  /** SHA-256 of the codec source, without the chat template. */
  tokenizerSha256: string
  /** Measured cost of pruning each linear; null when it was never measured. */
  layerSensitivity: LayerSensitivity | null
  /** Measured cost of errors at the outputs of the linears; null when it was never measured. */
  rowSensitivity: RowSensitivity | null
}

/** Returns the number of weights of a model. */
export function parameterCount({ master }: Pick<DenseModel, 'master'>): number {
  let count = 0
  for (const { shape } of master.tensors.values()) count += shape.reduce((product, size) => product * size, 1)
  return count
}
