import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import { modelTensors } from '@copal/gpu-node/model/formats/checkpoint.ts'
import { BYTE_CHARACTERS } from '@copal/gpu-node/model/tokenizer/byte-level.ts'
import { normalTile } from '../models/normal-tile.ts'

const SPECIAL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
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
  await json('config.json', configJson(config))
  await json('tokenizer.json', tokenizerJson())
  await json('tokenizer_config.json', { tokenizer_class: 'GPT2Tokenizer', eos_token: '<|im_end|>' })
  const tile = asBf16(normalTile(1, 1 / Math.sqrt(config.hiddenSize)))
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

function configJson(config: LlamaConfig): object {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    attention_bias: false,
    mlp_bias: false,
    hidden_act: 'silu',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    rope_theta: config.ropeTheta,
    rope_scaling: null,
    rms_norm_eps: config.rmsNormEps,
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tiedEmbedding,
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds[0],
    torch_dtype: 'bfloat16',
  }
}

/** A byte-level BPE without merges: every byte is a token. */
function tokenizerJson(): object {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries([...SPECIAL_TOKENS, ...BYTE_CHARACTERS].map((token, id) => [token, id])),
      merges: [],
    },
  }
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
