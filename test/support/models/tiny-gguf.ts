import { BLOCK_LINEARS, type LlamaConfig } from '../../../gpu-node/src/model/config/llama-config.ts'
import { ggufArchitecture, ggufName } from '../../../gpu-node/bench/models/gguf-llama.ts'
import { writeGguf, type GgufTensorData, type GgufValue } from '../../../gpu-node/bench/models/gguf-writer.ts'
import { storedBytes, type StoredTensor } from './safetensors-writer.ts'
import {
  tinyConfig,
  tinyTensors,
  TINY_CHAT_TEMPLATE,
  tokenizerJson,
  type TinyLlamaOptions,
} from './tiny-llama.ts'

/** How values become the bytes of a GGML type. */
export interface GgmlEncoding {
  type: number
  encode(values: Float32Array): Uint8Array
}

/** The types that are stored without blocks. */
export const PLAIN_ENCODINGS: Readonly<Record<'F32' | 'F16' | 'BF16', GgmlEncoding>> = {
  F32: { type: 0, encode: (values) => storedBytes(values, 'F32') },
  F16: { type: 1, encode: (values) => storedBytes(values, 'F16') },
  BF16: { type: 30, encode: (values) => storedBytes(values, 'BF16') },
}

/** Options of a tiny GGUF model. The default is stored as F32. */
export interface TinyGgufOptions extends Omit<TinyLlamaOptions, 'dtype' | 'shards' | 'ropeScaling'> {
  /** The encoding of the linears; norms and the embedding stay F32. */
  encoding?: GgmlEncoding
  /** Replaces or adds metadata; `undefined` removes it. */
  metadata?: Readonly<Record<string, GgufValue | undefined>>
  /** Added under their GGUF names. */
  extraTensors?: ReadonlyMap<string, GgufTensorData>
}

/** The model that {@link createTinyGguf} wrote. */
export interface TinyGguf {
  path: string
  config: LlamaConfig
  /** Values by Hugging Face name, with q and k in Hugging Face order. */
  tensors: ReadonlyMap<string, StoredTensor>
}

/** Writes the tiny seeded LLaMA as llama.cpp's converter would: its names, its order of the rows of q and k. */
export async function createTinyGguf(path: string, options: TinyGgufOptions = {}): Promise<TinyGguf> {
  const config = tinyConfig(options)
  const tensors = tinyTensors(config, options.seed ?? 1)
  const stored = new Map<string, GgufTensorData>()
  for (const [name, tensor] of tensors) {
    const linear = BLOCK_LINEARS.find((candidate) => name.endsWith(`${candidate}.weight`))
    const rotary = linear === 'self_attn.q_proj' || linear === 'self_attn.k_proj'
    const values = rotary ? interleavedRows(tensor, config.headDim) : tensor.values
    const encoding = linear === undefined ? PLAIN_ENCODINGS.F32 : (options.encoding ?? PLAIN_ENCODINGS.F32)
    stored.set(ggufName(name), {
      type: encoding.type,
      dims: [...tensor.shape].reverse(),
      bytes: encoding.encode(values),
    })
  }
  for (const [name, tensor] of options.extraTensors ?? []) stored.set(name, tensor)
  const metadata = new Map<string, GgufValue>([...ggufArchitecture(config), ...ggufTokenizer()])
  for (const [key, value] of Object.entries(options.metadata ?? {})) {
    if (value === undefined) metadata.delete(key)
    else metadata.set(key, value)
  }
  await writeGguf(path, metadata, stored)
  return { path, config, tensors }
}

function ggufTokenizer(): [string, GgufValue][] {
  const json = tokenizerJson() as { model: { vocab: Record<string, number>; merges: string[] } }
  const tokens: string[] = []
  for (const [token, id] of Object.entries(json.model.vocab)) tokens[id] = token
  return [
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'gpt-2'],
    ['tokenizer.ggml.tokens', tokens],
    // 3: control, 1: normal.
    ['tokenizer.ggml.token_type', tokens.map((_, id) => (id < 3 ? 3 : 1))],
    ['tokenizer.ggml.merges', json.model.merges],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
    ['tokenizer.chat_template', TINY_CHAT_TEMPLATE],
  ]
}

/** Rows of each head from half-split to interleaved: pair j has its halves at 2j and 2j + 1. */
function interleavedRows({ shape, values }: StoredTensor, headDim: number): Float32Array {
  const [rows, cols] = shape as [number, number]
  const moved = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const half = inHead < headDim / 2 ? 0 : 1
    const pair = inHead - half * (headDim / 2)
    const to = row - inHead + 2 * pair + half
    moved.set(values.subarray(row * cols, (row + 1) * cols), to * cols)
  }
  return moved
}
