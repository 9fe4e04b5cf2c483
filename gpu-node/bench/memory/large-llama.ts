import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import { modelTensors } from '@copal/gpu-node/model/formats/checkpoint.ts'
import { BYTE_CHARACTERS } from '@copal/gpu-node/model/tokenizer/byte-level.ts'
import { byteTokenizerJson, llamaConfigJson, SPECIAL_TOKENS } from '../models/llama-files.ts'
import { normalTile } from '../models/normal-tile.ts'

const BF16_BYTES = 2

/**
 * Returns the configuration of a LLaMA whose blocks have the proportions of the 7B model (`hidden` 4096 is its size),
 * with a vocabulary of bytes.
 */
export function largeConfig(hidden: number, layers: number): LlamaConfig {
  return {
    vocabSize: SPECIAL_TOKENS.length + BYTE_CHARACTERS.length,
    hiddenSize: hidden,
    intermediateSize: (hidden * 11008) / 4096,
    layers,
    heads: hidden / 128,
    kvHeads: hidden / 128,
    headDim: 128,
    ropeTheta: 10_000,
    ropeScaling: null,
    rmsNormEps: 1e-5,
    contextLength: 2048,
    tiedEmbedding: true,
    bosTokenId: 1,
    eosTokenIds: [2],
  }
}

/**
 * Writes a model of this configuration in Hugging Face layout, bf16 in two shards, without holding it in memory: its
 * values repeat a tile of random ones, small enough that activations stay finite.
 *
 * @returns the bytes of its weights
 */
export async function writeLargeLlama(dir: string, config: LlamaConfig): Promise<number> {
  await mkdir(dir, { recursive: true })
  const json = (name: string, value: object) => writeFile(join(dir, name), JSON.stringify(value))
  await json('config.json', llamaConfigJson(config, 'bfloat16'))
  await json('tokenizer.json', byteTokenizerJson())
  await json('tokenizer_config.json', { tokenizer_class: 'GPT2Tokenizer', eos_token: '<|im_end|>' })
  const tile = asBf16(normalTile(1 / Math.sqrt(config.hiddenSize)))
  const tensors = modelTensors(config)
  const weightMap: Record<string, string> = {}
  let bytes = 0
  for (const shard of [0, 1]) {
    const file = `model-0000${shard + 1}-of-00002.safetensors`
    const part = tensors.filter((_, index) => index % 2 === shard)
    for (const { name } of part) weightMap[name] = file
    bytes += await writeShard(join(dir, file), part, tile)
  }
  await json('model.safetensors.index.json', { metadata: {}, weight_map: weightMap })
  return bytes
}

/** The upper halves of the values' bits: bf16, rounded towards zero. */
function asBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer)
}

/** Writes a safetensors file whose tensors repeat the tile, and returns their bytes. */
async function writeShard(
  path: string,
  tensors: readonly { name: string; shape: readonly number[] }[],
  tile: Uint8Array,
): Promise<number> {
  const header: Record<string, unknown> = {}
  let total = 0
  for (const { name, shape } of tensors) {
    const bytes = shape.reduce((product, size) => product * size, BF16_BYTES)
    header[name] = { dtype: 'BF16', shape, data_offsets: [total, total + bytes] }
    total += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  const file = await open(path, 'w')
  try {
    await file.writeFile(Buffer.concat([length, json]))
    for (let left = total; left > 0; left -= tile.length) await file.writeFile(tile.subarray(0, left))
  } finally {
    await file.close()
  }
  return total
}
