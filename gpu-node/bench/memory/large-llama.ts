import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { modelTensors } from '@copal/gpu-node/model/formats/checkpoint.ts'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import { createRandom, normals } from '../../../test/support/random.ts'
import { storedBytes } from '../../../test/support/safetensors-writer.ts'
import { configJson, tinyConfig, tokenizerJson } from '../../../test/support/tiny-llama.ts'

/** Elements of the random values that repeat: a prime, so that no two rows of a matrix are equal. */
const TILE = 1_000_003

/** A LLaMA whose blocks have the proportions of the 7B model, `hidden` 4096 its size, with the tiny vocabulary. */
export function largeConfig(hidden: number, layers: number): LlamaConfig {
  return {
    ...tinyConfig(),
    hiddenSize: hidden,
    intermediateSize: (hidden * 11008) / 4096,
    layers,
    heads: hidden / 128,
    kvHeads: hidden / 128,
    headDim: 128,
    contextLength: 2048,
  }
}

/**
 * Writes a model of this configuration in Hugging Face layout, bf16 in two shards, without holding it: its values
 * repeat a tile of random ones, small enough that activations stay finite.
 *
 * @returns the bytes of its weights
 */
export async function writeLargeLlama(dir: string, config: LlamaConfig): Promise<number> {
  await mkdir(dir, { recursive: true })
  const json = (name: string, value: object) => writeFile(join(dir, name), JSON.stringify(value))
  await json('config.json', configJson(config))
  await json('tokenizer.json', tokenizerJson())
  await json('tokenizer_config.json', { tokenizer_class: 'GPT2Tokenizer', eos_token: '<|im_end|>' })
  const deviation = 1 / Math.sqrt(config.hiddenSize)
  const tile = storedBytes(normals(createRandom(1), TILE, 0, deviation), 'BF16')
  const tensors = modelTensors(config)
  const weightMap: Record<string, string> = {}
  let bytes = 0
  for (const shard of [0, 1]) {
    const file = `model-0000${shard + 1}-of-00002.safetensors`
    const part = tensors.filter((_, index) => index % 2 === shard)
    for (const { name } of part) weightMap[name] = file
    bytes += await writeTiled(join(dir, file), part, tile)
  }
  await json('model.safetensors.index.json', { metadata: {}, weight_map: weightMap })
  return bytes
}

async function writeTiled(
  path: string,
  tensors: readonly { name: string; shape: readonly number[] }[],
  tile: Uint8Array,
): Promise<number> {
  const header: Record<string, unknown> = {}
  let total = 0
  for (const { name, shape } of tensors) {
    const bytes = shape.reduce((product, size) => product * size, 2)
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
