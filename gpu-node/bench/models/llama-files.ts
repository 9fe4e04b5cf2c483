import type { LlamaConfig, RopeScaling } from '@copal/gpu-node/model/config/llama-config.ts'
import { BYTE_CHARACTERS } from '@copal/gpu-node/model/tokenizer/byte-level.ts'

/** Special tokens of {@link byteTokenizerJson}, with the ids 0, 1 and 2. */
export const SPECIAL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']

/**
 * Returns a byte-level BPE as a tokenizer.json object: the special tokens, the 256 bytes, then one token a merge.
 *
 * @param merges pairs as tokenizer.json writes them: `a b`
 */
export function byteTokenizerJson(merges: readonly string[] = []): object {
  const tokens = [...SPECIAL_TOKENS, ...BYTE_CHARACTERS, ...merges.map((merge) => merge.replace(' ', ''))]
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
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  }
}

/** Returns a model's config.json as Hugging Face writes it. */
export function llamaConfigJson(config: LlamaConfig, dtype: 'float32' | 'bfloat16'): Record<string, unknown> {
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
    rope_scaling: ropeScalingJson(config.ropeScaling),
    rms_norm_eps: config.rmsNormEps,
    max_position_embeddings: config.contextLength,
    tie_word_embeddings: config.tiedEmbedding,
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds.length === 1 ? config.eosTokenIds[0] : config.eosTokenIds,
    torch_dtype: dtype,
  }
}

function ropeScalingJson(scaling: RopeScaling | null): object | null {
  if (scaling === null) return null
  if (scaling.type === 'linear') return { type: 'linear', factor: scaling.factor }
  return {
    rope_type: 'llama3',
    factor: scaling.factor,
    low_freq_factor: scaling.lowFreqFactor,
    high_freq_factor: scaling.highFreqFactor,
    original_max_position_embeddings: scaling.originalContextLength,
  }
}
