import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LlamaConfig } from '../config/llama-config.ts'
import { readGgufHeader } from '../formats/gguf.ts'
import { isErrno } from '../../platform/errno.ts'
import type { ModelFiles } from '../source/local-source.ts'
import type { TokenizerDescription } from '../tokenizer/hub-codec.ts'
import { readJson } from '../tokenizer/tokenizer-files.ts'
import { readGgufTokenizer } from '../formats/gguf-tokenizer.ts'

/** Storage of the tensors of a checkpoint. */
export type CheckpointDtype = 'BF16' | 'F32'

const TORCH_DTYPE = { BF16: 'bfloat16', F32: 'float32' } as const

/** Optional files of a Hugging Face directory beside weights and `config.json`. */
const COPIED = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
]

/**
 * Writes the files of a Hugging Face checkpoint except the weights: `config.json` and the tokenizer. They are copied from a
 * model in that layout and generated from the metadata of a GGUF.
 */
export async function writeCheckpointFiles(
  dir: string,
  config: LlamaConfig,
  files: ModelFiles,
  dtype: CheckpointDtype,
): Promise<void> {
  if (files.kind === 'directory') {
    const original = await readJson(join(files.dir, 'config.json'))
    await writeJson(join(dir, 'config.json'), { ...original, torch_dtype: TORCH_DTYPE[dtype] })
    for (const name of COPIED) await copyIfThere(join(files.dir, name), join(dir, name))
    return
  }
  await writeJson(join(dir, 'config.json'), { ...configJson(config), torch_dtype: TORCH_DTYPE[dtype] })
  await writeJson(join(dir, 'generation_config.json'), tokenIds(config))
  const tokenizer = readGgufTokenizer(await readGgufHeader(files.path))
  await writeJson(join(dir, 'tokenizer.json'), tokenizer.json)
  await writeJson(join(dir, 'tokenizer_config.json'), tokenizerConfig(tokenizer, config))
}

/** A `config.json` that transformers reads, from which `parseConfigJson` reads the same configuration. */
function configJson(config: LlamaConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    rms_norm_eps: config.rmsNormEps,
    max_position_embeddings: config.contextLength,
    rope_theta: config.ropeTheta,
    rope_scaling: ropeScalingJson(config),
    tie_word_embeddings: config.tiedEmbedding,
    attention_bias: false,
    mlp_bias: false,
    ...tokenIds(config),
  }
}

function ropeScalingJson({ ropeScaling: scaling }: LlamaConfig): Record<string, unknown> | null {
  if (scaling === null) return null
  if (scaling.type === 'linear') return { rope_type: 'linear', factor: scaling.factor }
  return {
    rope_type: 'llama3',
    factor: scaling.factor,
    low_freq_factor: scaling.lowFreqFactor,
    high_freq_factor: scaling.highFreqFactor,
    original_max_position_embeddings: scaling.originalContextLength,
  }
}

function tokenIds({ bosTokenId, eosTokenIds }: LlamaConfig): Record<string, unknown> {
  const [only, ...others] = eosTokenIds
  return { bos_token_id: bosTokenId, eos_token_id: others.length > 0 ? eosTokenIds : (only ?? null) }
}

function tokenizerConfig(
  { chatTemplate, bosToken, eosToken }: TokenizerDescription,
  { contextLength }: LlamaConfig,
): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: contextLength,
    clean_up_tokenization_spaces: false,
    ...(bosToken === '' ? {} : { bos_token: bosToken }),
    ...(eosToken === '' ? {} : { eos_token: eosToken }),
    ...(chatTemplate === null ? {} : { chat_template: chatTemplate }),
  }
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`)
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}
