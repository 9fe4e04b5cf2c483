import type { MetadataValue } from '@huggingface/gguf'
import { AppError } from '@copal/shared/errors.ts'
import type { LlamaConfig, RopeScaling } from '../config/llama-config.ts'
import { checkShape } from '../config/config-json.ts'
import { ggufHeadDim, readGgufTensor, ROPE_FACTORS, type GgufHeader } from './gguf.ts'
import { fitLlama3Scaling } from '../config/rope-factors.ts'

type Metadata = ReadonlyMap<string, MetadataValue>

/** Tokens that end an output in the chat formats of LLaMA models, besides the end token that the file names. */
const END_OF_TURN_TOKENS = ['<|im_end|>', '<|eot_id|>', '<|eom_id|>']

/**
 * Reads the configuration of a GGUF model.
 *
 * @throws AppError `unsupported_model` naming the first thing that is not a plain LLaMA model
 */
export async function readGgufConfig(header: GgufHeader): Promise<LlamaConfig> {
  const { metadata, path } = header
  refuseUnsupported(header)
  const hiddenSize = positive(metadata, 'llama.embedding_length', path)
  const heads = positive(metadata, 'llama.attention.head_count', path)
  const kvHeads = positive(metadata, 'llama.attention.head_count_kv', path, heads)
  const headDim = ggufHeadDim(metadata)
  const layers = positive(metadata, 'llama.block_count', path)
  checkShape({ layers, heads, kvHeads, headDim }, path)
  const rotary = Number(metadata.get('llama.rope.dimension_count') ?? headDim)
  if (rotary !== headDim) {
    throw new AppError(
      'unsupported_model',
      `${path}: a rotary embedding of ${rotary} of ${headDim} dimensions is not supported.`,
    )
  }
  const embedding = header.tensors.get('token_embd.weight')
  if (embedding === undefined)
    throw new AppError('unsupported_model', `${path} holds no tensor token_embd.weight. Fetch it again.`)
  const ropeTheta = floatOf(metadata.get('llama.rope.freq_base'), 10_000)
  return {
    vocabSize: embedding.shape[0]!,
    hiddenSize,
    intermediateSize: positive(metadata, 'llama.feed_forward_length', path),
    layers,
    heads,
    kvHeads,
    headDim,
    ropeTheta,
    ropeScaling: await readRopeScaling(header, headDim, ropeTheta),
    rmsNormEps: floatOf(metadata.get('llama.attention.layer_norm_rms_epsilon'), 1e-5),
    contextLength: positive(metadata, 'llama.context_length', path),
    tiedEmbedding: !header.tensors.has('output.weight'),
    bosTokenId: tokenId(metadata, 'tokenizer.ggml.bos_token_id') ?? null,
    eosTokenIds: endTokens(metadata),
  }
}

function refuseUnsupported({ metadata, tensors, path }: GgufHeader): void {
  const refuse = (what: string) => {
    throw new AppError(
      'unsupported_model',
      `${path}: ${what} is not supported. Only LLaMA models without biases, experts or sliding windows are.`,
    )
  }
  const architecture = metadata.get('general.architecture')
  if (architecture !== 'llama') refuse(`architecture ${JSON.stringify(architecture ?? null)}`)
  if (Number(metadata.get('llama.expert_count') ?? 0) > 0) refuse('a mixture of experts (llama.expert_count)')
  if (Number(metadata.get('llama.attention.sliding_window') ?? 0) > 0) {
    refuse('a sliding window (llama.attention.sliding_window)')
  }
  for (const name of tensors.keys()) {
    if (/^blk\.\d+\.attn_(q|k|v|output)\.bias$/.test(name)) refuse(`attention bias (tensor ${name})`)
  }
}

/** Reads rope scaling. llama.cpp stores linear scaling as metadata, and LLaMA 3's as a tensor of the resulting factors. */
async function readRopeScaling(
  header: GgufHeader,
  headDim: number,
  theta: number,
): Promise<RopeScaling | null> {
  const { metadata, path } = header
  const factors = await readGgufTensor(header, ROPE_FACTORS)
  if (factors !== undefined) {
    const scaling = fitLlama3Scaling(factors, headDim, theta)
    if (scaling !== undefined) return scaling
    throw new AppError(
      'unsupported_model',
      `${path}: the rotary factors in ${ROPE_FACTORS} are not those of llama3 rope scaling.`,
    )
  }
  const type = metadata.get('llama.rope.scaling.type') ?? 'none'
  if (type === 'none') {
    const legacy = Number(metadata.get('llama.rope.scale_linear') ?? 1)
    return legacy === 1 ? null : { type: 'linear', factor: legacy }
  }
  if (type === 'linear') return { type, factor: floatOf(metadata.get('llama.rope.scaling.factor'), 1) }
  throw new AppError(
    'unsupported_model',
    `${path}: rope scaling ${JSON.stringify(type)} is not supported. Supported are llama3 and linear.`,
  )
}

function endTokens(metadata: Metadata): number[] {
  const tokens = metadata.get('tokenizer.ggml.tokens')
  const byName = Array.isArray(tokens) ? END_OF_TURN_TOKENS.map((token) => tokens.indexOf(token)) : []
  const named = ['eos', 'eot', 'eom'].map(
    (kind) => tokenId(metadata, `tokenizer.ggml.${kind}_token_id`) ?? -1,
  )
  return [...new Set([...named, ...byName])].filter((id) => id >= 0)
}

function positive(metadata: Metadata, key: string, path: string, fallback?: number): number {
  const value = metadata.get(key) ?? fallback
  const number = Number(value)
  // Some models give one value per layer; in a LLaMA all are equal.
  if (!Array.isArray(value) && Number.isSafeInteger(number) && number > 0) return number
  throw new AppError(
    'unsupported_model',
    `${path}: ${key} is ${describe(value)}, expected one positive integer.`,
  )
}

function describe(value: MetadataValue | undefined): string {
  if (value === undefined) return 'missing'
  return Array.isArray(value) ? `an array of ${value.length}` : String(value)
}

function tokenId(metadata: Metadata, key: string): number | undefined {
  const value = metadata.get(key)
  return value === undefined ? undefined : Number(value)
}

/** Returns the shortest decimal that rounds to this f32: 1e-5, not 0.000009999999747378752. */
function floatOf(value: MetadataValue | undefined, fallback: number): number {
  if (value === undefined) return fallback
  const number = Number(value)
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(number.toPrecision(digits))
    if (Math.fround(short) === Math.fround(number)) return short
  }
  return number
}
