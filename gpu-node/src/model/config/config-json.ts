import { AppError } from '@copal/shared/errors.ts'
import type { LlamaConfig, RopeScaling } from './llama-config.ts'

type Json = Readonly<Record<string, unknown>>

/** Architectures that compute what a LLaMA does, if nothing of {@link refuseUnsupported} applies. */
const LLAMA_SHAPED = ['LlamaForCausalLM', 'MistralForCausalLM']
/** How well-known architectures differ from a LLaMA without a field that says so. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  Qwen2ForCausalLM: ', which has biases in its attention,',
  Qwen3ForCausalLM: ', which normalises queries and keys,',
}

/**
 * Reads a Hugging Face `config.json` (and `generation_config.json`, which may name more end tokens).
 *
 * @throws AppError `unsupported_model` naming the first thing that is not a plain LLaMA model
 */
export function parseConfigJson(json: unknown, generation: unknown, source: string): LlamaConfig {
  const config = object(json) ?? {}
  refuseUnsupported(config, source)
  const size = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number
    throw new AppError(
      'unsupported_model',
      `${source}: ${key} is ${JSON.stringify(value)}, expected a positive integer.`,
    )
  }
  const hiddenSize = size('hidden_size')
  const heads = size('num_attention_heads')
  const kvHeads = size('num_key_value_heads', heads)
  const headDim = size('head_dim', hiddenSize / heads)
  const layers = size('num_hidden_layers')
  checkShape({ layers, heads, kvHeads, headDim }, source)
  // Transformers 5 moved the rotary settings into one object.
  const rope = object(config['rope_parameters']) ?? object(config['rope_scaling'])
  return {
    vocabSize: size('vocab_size'),
    hiddenSize,
    intermediateSize: size('intermediate_size'),
    layers,
    heads,
    kvHeads,
    headDim,
    ropeTheta: number(rope?.['rope_theta'] ?? config['rope_theta'], 10_000),
    ropeScaling: rope === undefined ? null : parseRopeScaling(rope, source),
    rmsNormEps: number(config['rms_norm_eps'], 1e-6),
    contextLength: size('max_position_embeddings', 2048),
    tiedEmbedding: config['tie_word_embeddings'] === true,
    bosTokenId: tokenIds(config['bos_token_id'])[0] ?? null,
    eosTokenIds: [
      ...new Set([...tokenIds(config['eos_token_id']), ...tokenIds(object(generation)?.['eos_token_id'])]),
    ],
  }
}

function refuseUnsupported(config: Json, source: string): void {
  const refuse = (what: string) => {
    throw new AppError(
      'unsupported_model',
      `${source}: ${what} is not supported. Only LLaMA and Mistral models (${LLAMA_SHAPED.join(', ')}) without ` +
        'biases, experts, sliding windows or stored quantisation are.',
    )
  }
  const { architectures, model_type: modelType } = config
  const named: unknown = Array.isArray(architectures) ? architectures[0] : undefined
  const architecture = typeof named === 'string' ? named : modelType === 'llama' ? 'LlamaForCausalLM' : ''
  if (!LLAMA_SHAPED.includes(architecture)) {
    const name = JSON.stringify(architectures ?? modelType ?? null)
    refuse(`architecture ${name}${DIFFERENCES[architecture] ?? ''}`)
  }
  // The window of a Mistral is 4096 tokens where its configuration does not say null.
  if (architecture === 'MistralForCausalLM' && config['sliding_window'] === undefined)
    refuse('a sliding window (sliding_window, by default 4096)')
  if (config['attention_bias'] === true) refuse('attention bias (attention_bias)')
  if (config['mlp_bias'] === true) refuse('MLP bias (mlp_bias)')
  if (typeof config['sliding_window'] === 'number') refuse('a sliding window (sliding_window)')
  for (const key of ['num_local_experts', 'num_experts', 'n_routed_experts']) {
    if (typeof config[key] === 'number' && config[key] > 1) refuse(`a mixture of experts (${key})`)
  }
  const activation = config['hidden_act'] ?? 'silu'
  if (activation !== 'silu') refuse(`activation ${JSON.stringify(activation)}`)
  const rotary = config['partial_rotary_factor'] ?? 1
  if (rotary !== 1) refuse(`a partial rotary embedding (partial_rotary_factor ${JSON.stringify(rotary)})`)
  if (object(config['quantization_config']) !== undefined) refuse('stored quantisation (quantization_config)')
}

/** The largest LLaMA has 126. Tables have a row for each tensor, and would fill the memory. */
const MAX_LAYERS = 1_000

/**
 * Checks the number of layers, and what grouped-query attention and rotary pairs need.
 *
 * @throws AppError `unsupported_model`
 */
export function checkShape(
  { layers, heads, kvHeads, headDim }: Pick<LlamaConfig, 'layers' | 'heads' | 'kvHeads' | 'headDim'>,
  source: string,
): void {
  if (layers > MAX_LAYERS) {
    throw new AppError(
      'unsupported_model',
      `${source}: ${layers} layers are more than the ${MAX_LAYERS} that are supported.`,
    )
  }
  if (heads % kvHeads !== 0) {
    throw new AppError(
      'unsupported_model',
      `${source}: ${heads} heads cannot share ${kvHeads} key/value heads evenly.`,
    )
  }
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new AppError(
      'unsupported_model',
      `${source}: a head of ${headDim} dimensions cannot be rotated in pairs.`,
    )
  }
}

function parseRopeScaling(rope: Json, source: string): RopeScaling | null {
  const type = rope['rope_type'] ?? rope['type'] ?? 'default'
  const parameter = (key: string): number => {
    const value = rope[key]
    if (typeof value === 'number' && value > 0) return value
    throw new AppError(
      'unsupported_model',
      `${source}: rope scaling ${JSON.stringify(type)} needs a positive ${key}.`,
    )
  }
  switch (type) {
    case 'default':
      return null
    case 'linear':
      return { type: 'linear', factor: parameter('factor') }
    case 'llama3':
      return {
        type: 'llama3',
        factor: parameter('factor'),
        lowFreqFactor: parameter('low_freq_factor'),
        highFreqFactor: parameter('high_freq_factor'),
        originalContextLength: parameter('original_max_position_embeddings'),
      }
    default:
      throw new AppError(
        'unsupported_model',
        `${source}: rope scaling ${JSON.stringify(type)} is not supported. Supported are llama3 and linear.`,
      )
  }
}

function object(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined
}

function number(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : fallback
}

function tokenIds(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isSafeInteger(id))
}
