import type { TokenizerDescription } from '../tokenizer/hub-codec.ts'
import type { LlamaConfig } from '../config/llama-config.ts'
import type { LayerSensitivity } from '../sensitivities/layer-sensitivity.ts'
import type { RowSensitivity } from '../sensitivities/row-sensitivity.ts'
import type { TextCodec } from '../tokenizer/text-codec.ts'

/** Where one tensor lies in the master file: f32 little-endian, row-major, `offset` from the start of the file. */
export interface MasterTensor {
  shape: readonly number[]
  offset: number
  bytes: number
}

/**
 * The dense weights every mask is chosen from and every weight set is made from: one safetensors
 * file of f32 tensors under their Hugging Face names, in the model cache. It is converted once
 * from whatever was downloaded, is never modified, and q/k rows are in Hugging Face (half-split)
 * rotary order whatever the source's order was.
 */
export interface DenseMaster {
  path: string
  tensors: ReadonlyMap<string, MasterTensor>
  /** SHA-256 over the dense linear weights in forward order: what a mask file's `base_sha256` must equal. */
  baseSha256: string
}

/** A loaded model without any session: plain data, cheap to hold. */
export interface DenseModel {
  /** Public name: `smollm2-135m-instruct`. */
  id: string
  config: LlamaConfig
  master: DenseMaster
  codec: TextCodec
  /** What the codec was made from. */
  tokenizer: TokenizerDescription
  /** Over it, but for the chat template. */
  tokenizerSha256: string
  /** What pruning its parts costs; null when that was never measured. */
  layerSensitivity: LayerSensitivity | null
  /** What errors at the outputs of its linears cost; null when that was never measured. */
  rowSensitivity: RowSensitivity | null
}
