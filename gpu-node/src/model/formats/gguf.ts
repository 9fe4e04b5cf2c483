import { open } from 'node:fs/promises'
import type { GGUFParseOutput, MetadataValue } from '@huggingface/gguf'
import { AppError } from '@copal/shared/errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { GGML_TYPES, type GgmlType } from './dequantise.ts'
import { readExactly } from '../../platform/positional-read.ts'

/** One tensor of a GGUF file; `shape` row-major, `offset` from the start of the file. */
interface GgufTensor {
  type: GgmlType
  shape: readonly number[]
  offset: number
}

/** The header of a GGUF file. */
export interface GgufHeader {
  path: string
  metadata: ReadonlyMap<string, MetadataValue>
  /** By the names of the file (`blk.0.attn_q.weight`). */
  tensors: ReadonlyMap<string, GgufTensor>
}

/**
 * Reads and checks the header of a GGUF file, against the file's length too.
 *
 * @throws AppError `unsupported_model`: not a GGUF, cut short, one of several parts, in big-endian order, with two tensors of
 * one name, or a tensor of an unsupported storage type
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const { fileBytes, parsed } = await parse(path)
  if (!parsed.littleEndian) {
    throw new AppError(
      'unsupported_model',
      `${path} is stored in big-endian order, which is not supported. Fetch the little-endian file.`,
    )
  }
  const metadata = new Map(Object.entries(parsed.metadata as Record<string, MetadataValue>))
  const parts = Number(metadata.get('split.count') ?? 1)
  if (parts > 1) {
    throw new AppError(
      'unsupported_model',
      `${path} is one of ${parts} parts. Merge them into one file first (llama-gguf-split --merge).`,
    )
  }
  const tensors = new Map<string, GgufTensor>()
  const modelNames = new Set<string>()
  for (const info of parsed.tensorInfos) {
    const modelName = huggingFaceName(info.name)
    if (modelNames.has(modelName)) {
      throw new AppError('unsupported_model', `${path} holds two tensors ${modelName}. Fetch it again.`)
    }
    modelNames.add(modelName)
    const type = GGML_TYPES.get(info.dtype)
    if (type === undefined) {
      const supported = [...GGML_TYPES.values()].map(({ name }) => name).join(', ')
      throw new AppError(
        'unsupported_model',
        `${path}: tensor ${info.name} is stored in GGML type ${info.dtype}, which is not supported. Supported are ${supported}.`,
      )
    }
    // GGUF lists the fastest dimension first.
    const shape = info.shape.map(Number).reverse()
    const offset = Number(parsed.tensorDataOffset + info.offset)
    const end = offset + rowBytes(type, shape) * (shape.length < 2 ? 1 : shape[0]!)
    if (shape.at(-1)! % type.blockValues !== 0 || end > fileBytes) {
      throw new AppError(
        'unsupported_model',
        `${path}: tensor ${info.name} ends at byte ${end} of ${fileBytes}: the file was cut short. Fetch it again.`,
      )
    }
    tensors.set(info.name, { type, shape, offset })
  }
  return { path, metadata, tensors }
}

async function parse(path: string): Promise<{ fileBytes: number; parsed: GGUFParseOutput }> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    // The library pads a short file with zeros and would continue to read.
    const magic = size < 24 ? '' : (await readExactly(file, 0, 4, path)).toString('latin1')
    if (magic !== 'GGUF') {
      throw new AppError(
        'unsupported_model',
        `${path} is not a GGUF file. Fetch it again, or give another file.`,
      )
    }
    // Loaded here, because most programs open a converted model and never read a GGUF.
    const { gguf } = await import('@huggingface/gguf')
    return { fileBytes: size, parsed: await gguf(path, { allowLocalFile: true }) }
  } catch (cause) {
    if (cause instanceof AppError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('unsupported_model', `${path} cannot be read as GGUF (${reason}). Fetch it again.`, {
      cause,
    })
  } finally {
    await file.close()
  }
}

/** Hugging Face names of the tensors outside the blocks, by their llama.cpp names. */
const MODEL_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
}

/** Hugging Face names of the tensors of a block, by their llama.cpp names. */
const BLOCK_NAMES: Readonly<Record<string, string>> = {
  'attn_norm.weight': 'input_layernorm.weight',
  'attn_q.weight': 'self_attn.q_proj.weight',
  'attn_k.weight': 'self_attn.k_proj.weight',
  'attn_v.weight': 'self_attn.v_proj.weight',
  'attn_output.weight': 'self_attn.o_proj.weight',
  'ffn_norm.weight': 'post_attention_layernorm.weight',
  'ffn_gate.weight': 'mlp.gate_proj.weight',
  'ffn_up.weight': 'mlp.up_proj.weight',
  'ffn_down.weight': 'mlp.down_proj.weight',
}

/** Rotary factors, which belong to the configuration and are not weights. */
export const ROPE_FACTORS = 'rope_freqs.weight'

/** Returns the Hugging Face name of a GGUF tensor; a name that LLaMA does not have stays unchanged. */
function huggingFaceName(name: string): string {
  const [, layer, rest] = /^blk\.(\d+)\.(.+)$/.exec(name) ?? []
  if (rest === undefined) return MODEL_NAMES[name] ?? name
  const known = BLOCK_NAMES[rest]
  return known === undefined ? name : `model.layers.${layer}.${known}`
}

/**
 * Opens the weights of a GGUF under their Hugging Face names, with the rows of q and k moved from
 * GGUF's interleaved rotary order to the half-split order.
 *
 * @throws as {@link readGgufHeader}
 */
export async function openGgufCheckpoint(path: string): Promise<Checkpoint> {
  const header = await readGgufHeader(path)
  const tensors = new Map(
    [...header.tensors]
      .filter(([name]) => name !== ROPE_FACTORS)
      .map(([name, tensor]) => [huggingFaceName(name), tensor] as const),
  )
  const headDim = ggufHeadDim(header.metadata)
  const file = await open(path)
  return {
    shapes: new Map([...tensors].map(([name, { shape }]) => [name, shape])),
    async readRows(name, first, rows) {
      const tensor = tensors.get(name)
      if (tensor === undefined) throw new RangeError(`no tensor ${name} in ${path}`)
      const bytesPerRow = rowBytes(tensor.type, tensor.shape)
      const bytes = await readExactly(file, tensor.offset + first * bytesPerRow, rows * bytesPerRow, path)
      const values = tensor.type.dequantise(bytes)
      const rotary = name.endsWith('.q_proj.weight') || name.endsWith('.k_proj.weight')
      return rotary ? halfSplitRows(values, tensor.shape[1]!, headDim) : values
    },
    close: () => file.close(),
  }
}

/** One GGUF tensor as f32, whole: for the small ones that are configuration. */
export async function readGgufTensor(header: GgufHeader, name: string): Promise<Float32Array | undefined> {
  const tensor = header.tensors.get(name)
  if (tensor === undefined) return undefined
  const file = await open(header.path)
  try {
    const rows = tensor.shape.length < 2 ? 1 : tensor.shape[0]!
    return tensor.type.dequantise(
      await readExactly(file, tensor.offset, rows * rowBytes(tensor.type, tensor.shape), header.path),
    )
  } finally {
    await file.close()
  }
}

/** Dimensions of one attention head by a GGUF's metadata; NaN when it does not say. */
export function ggufHeadDim(metadata: ReadonlyMap<string, MetadataValue>): number {
  return Number(
    metadata.get('llama.attention.key_length') ??
      Number(metadata.get('llama.embedding_length')) / Number(metadata.get('llama.attention.head_count')),
  )
}

/**
 * Rows of whole heads from the interleaved rotary order (row 2j + i of a head is half i of pair j) to the
 * half-split one (row i · headDim/2 + j), which is the inverse of llama.cpp's conversion.
 *
 * @param values `[heads · headDim, cols]` row-major
 */
function halfSplitRows(values: Float32Array, cols: number, headDim: number): Float32Array {
  const moved = new Float32Array(values.length)
  const pairs = headDim / 2
  const rows = values.length / cols
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const from = row - inHead + 2 * (inHead % pairs) + Math.floor(inHead / pairs)
    moved.set(values.subarray(from * cols, (from + 1) * cols), row * cols)
  }
  return moved
}

function rowBytes(type: GgmlType, shape: readonly number[]): number {
  return (shape.at(-1)! / type.blockValues) * type.blockBytes
}
