import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BYTE_CHARACTERS } from '../../../gpu-node/src/model/tokenizer/byte-level.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type LlamaConfig,
  type RopeScaling,
} from '../../../gpu-node/src/model/config/llama-config.ts'
import {
  byteTokenizerJson,
  llamaConfigJson,
  SPECIAL_TOKENS,
} from '../../../gpu-node/bench/models/llama-files.ts'
import { createRandom, normals } from '../harness/random.ts'
import { writeSafetensors, type StoredDtype, type StoredTensor } from './safetensors-writer.ts'

/** Options of a tiny model. */
export interface TinyLlamaOptions {
  seed?: number
  layers?: number
  hiddenSize?: number
  intermediateSize?: number
  heads?: number
  kvHeads?: number
  /** A multiple of 16: onnxruntime's rotary kernels need it. */
  headDim?: number
  contextLength?: number
  tied?: boolean
  dtype?: StoredDtype
  ropeScaling?: RopeScaling | null
  /** More than one writes model-0000n-of-0000m.safetensors and the index file. */
  shards?: number
  /** `null` leaves the model without a template. */
  chatTemplate?: string | null
  /** Scales the logits. With less than 1 a mask costs little, as of a trained model, so that it may pass the gate. */
  logitScale?: number
}

/** The model that {@link createTinyLlama} wrote. */
export interface TinyLlama {
  /** The directory, to give to `openModel`. */
  dir: string
  config: LlamaConfig
  /** The f32 values before they were rounded to the stored dtype, by Hugging Face name. */
  tensors: ReadonlyMap<string, StoredTensor>
}

/** The ChatML template of the tiny model. */
export const TINY_CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + " +
  "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/** Merges in order of rank; both sides are bytes or results of earlier merges. `Ġ` is the space. */
const MERGES = [
  'Ġ t|h e|Ġ a|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|Ġ o|e n|Ġ c|i t',
  'i s|a n|o r|e s|Ġ b|e d|Ġ f|in g|Ġ p|o u|Ġa n|a l|a r|Ġt o|Ġ m',
  'Ġo f|Ġ in|Ġ d|Ġ h|Ġan d|i c|a s|l e|Ġt h|i on|o m',
].flatMap((row) => row.split('|'))

/**
 * Writes a seeded LLaMA of a few hundred KB in Hugging Face layout: config.json, safetensors,
 * a byte-level BPE of 300 tokens, a ChatML template. Weights are random but scaled so that
 * activations keep their size and the logits are far from flat.
 */
export async function createTinyLlama(dir: string, options: TinyLlamaOptions = {}): Promise<TinyLlama> {
  const config = tinyConfig(options)
  const tensors = tinyTensors(config, options.seed ?? 1)
  const norm = tensors.get('model.norm.weight')
  if (norm) {
    const { logitScale = 1 } = options
    const values = norm.values.map((value) => value * logitScale)
    tensors.set('model.norm.weight', { ...norm, values })
  }
  await mkdir(dir, { recursive: true })
  await Promise.all([
    writeJson(join(dir, 'config.json'), configJson(config)),
    writeJson(join(dir, 'tokenizer.json'), tokenizerJson()),
    writeJson(join(dir, 'tokenizer_config.json'), {
      tokenizer_class: 'GPT2Tokenizer',
      bos_token: '<|im_start|>',
      eos_token: '<|im_end|>',
      clean_up_tokenization_spaces: false,
      ...(options.chatTemplate === null ? {} : { chat_template: options.chatTemplate ?? TINY_CHAT_TEMPLATE }),
    }),
    writeTensors(dir, tensors, options.dtype ?? 'F32', options.shards ?? 1),
  ])
  return { dir, config, tensors }
}

/** Returns the configuration of a model with these options. */
export function tinyConfig(options: TinyLlamaOptions = {}): LlamaConfig {
  return {
    vocabSize: SPECIAL_TOKENS.length + BYTE_CHARACTERS.length + MERGES.length,
    hiddenSize: options.hiddenSize ?? 64,
    intermediateSize: options.intermediateSize ?? 64,
    layers: options.layers ?? 2,
    heads: options.heads ?? 4,
    kvHeads: options.kvHeads ?? 2,
    headDim: options.headDim ?? 16,
    ropeTheta: 10_000,
    ropeScaling: options.ropeScaling ?? null,
    rmsNormEps: 1e-5,
    contextLength: options.contextLength ?? 256,
    tiedEmbedding: options.tied ?? true,
    bosTokenId: 1,
    eosTokenIds: [2],
  }
}

/** Returns the seeded tensors of a model, f32 `[d_out, d_in]`, by Hugging Face name. */
export function tinyTensors(config: LlamaConfig, seed: number): Map<string, StoredTensor> {
  const random = createRandom(seed)
  const tensors = new Map<string, StoredTensor>()
  const add = (name: string, shape: readonly number[], mean: number, deviation: number) => {
    const count = shape.reduce((product, size) => product * size, 1)
    tensors.set(name, { shape, values: normals(random, count, mean, deviation) })
  }
  add('model.embed_tokens.weight', [config.vocabSize, config.hiddenSize], 0, 0.5)
  for (let layer = 0; layer < config.layers; layer++) {
    add(`model.layers.${layer}.input_layernorm.weight`, [config.hiddenSize], 1, 0.2)
    for (const linear of BLOCK_LINEARS) {
      const shape = linearShape(config, linear)
      add(linearName(layer, linear), shape, 0, 1 / Math.sqrt(shape[1]))
    }
    add(`model.layers.${layer}.post_attention_layernorm.weight`, [config.hiddenSize], 1, 0.2)
  }
  add('model.norm.weight', [config.hiddenSize], 1, 0.2)
  if (!config.tiedEmbedding) add('lm_head.weight', [config.vocabSize, config.hiddenSize], 0, 0.5)
  return tensors
}

/** Returns the tiny tokenizer as a tokenizer.json object. */
export function tokenizerJson(): object {
  return byteTokenizerJson(MERGES)
}

/** Returns a model's config.json as Hugging Face writes it. */
export function configJson(config: LlamaConfig): Record<string, unknown> {
  return llamaConfigJson(config, 'float32')
}

async function writeTensors(
  dir: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  dtype: StoredDtype,
  shards: number,
): Promise<void> {
  if (shards === 1) return writeSafetensors(join(dir, 'model.safetensors'), tensors, dtype)
  const entries = [...tensors]
  const weightMap: Record<string, string> = {}
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${String(shard + 1).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`
    const part = entries.filter((_, index) => index % shards === shard)
    for (const [name] of part) weightMap[name] = file
    await writeSafetensors(join(dir, file), new Map(part), dtype)
  }
  await writeJson(join(dir, 'model.safetensors.index.json'), { metadata: {}, weight_map: weightMap })
}

function writeJson(path: string, value: object): Promise<void> {
  return writeFile(path, JSON.stringify(value))
}
