import type { MetadataValue } from '@huggingface/gguf'
import { AppError } from '@copal/shared/errors.ts'
import type { AddedToken, TokenizerDescription, TokenizerJson } from '../tokenizer/hub-codec.ts'
import type { GgufHeader } from './gguf.ts'
import { mergesFromScores } from '../tokenizer/sentencepiece-merges.ts'

type Metadata = ReadonlyMap<string, MetadataValue>

/** Token types of a GGUF vocabulary (llama.cpp's `llama_token_type`). */
const CONTROL = 3
const USER_DEFINED = 4

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true }
const GPT2 = { ...BYTE_LEVEL, use_regex: true }
const DIGIT_BY_DIGIT = { type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false }

/** Contractions, words, runs of `digits`, punctuation with its line ends, line ends, spaces (cl100k and its kin). */
const wordsThenBytes = (digits: string) => ({
  type: 'Sequence',
  pretokenizers: [
    {
      type: 'Split',
      pattern: {
        Regex:
          `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}|` +
          ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
      },
      behavior: 'Isolated',
      invert: false,
    },
    { ...BYTE_LEVEL, use_regex: false },
  ],
})

/** Pre-tokenization patterns by `tokenizer.ggml.pre`; llama.cpp defines the meaning of each name. */
const PRE_TOKENIZERS: Readonly<
  Record<string, { pre_tokenizer: object; normalizer?: object; ignore_merges?: boolean }>
> = {
  'gpt-2': { pre_tokenizer: GPT2 },
  smollm: { pre_tokenizer: { type: 'Sequence', pretokenizers: [DIGIT_BY_DIGIT, GPT2] } },
  'llama-bpe': { pre_tokenizer: wordsThenBytes('\\p{N}{1,3}'), ignore_merges: true },
  llama3: { pre_tokenizer: wordsThenBytes('\\p{N}{1,3}'), ignore_merges: true },
  'llama-v3': { pre_tokenizer: wordsThenBytes('\\p{N}{1,3}'), ignore_merges: true },
  qwen2: { pre_tokenizer: wordsThenBytes('\\p{N}'), normalizer: { type: 'NFC' } },
}

/**
 * Converts the tokenizer of a GGUF model to the form of a tokenizer.json.
 *
 * @throws AppError `unsupported_model` naming a tokenizer model or a pre-tokenizer that is not supported
 */
export function readGgufTokenizer({ metadata, path }: GgufHeader): TokenizerDescription {
  const tokens = strings(metadata, 'tokenizer.ggml.tokens', path)
  const model = metadata.get('tokenizer.ggml.model')
  const shape =
    model === 'gpt2'
      ? byteLevel(metadata, path)
      : model === 'llama'
        ? sentencePiece(metadata, tokens)
        : undefined
  if (shape === undefined) {
    throw new AppError(
      'unsupported_model',
      `${path}: tokenizer ${JSON.stringify(model ?? null)} is not supported. Supported are gpt2 and llama.`,
    )
  }
  const template = metadata.get('tokenizer.chat_template')
  const tokenText = (kind: string) =>
    tokens[Number(metadata.get(`tokenizer.ggml.${kind}_token_id`) ?? -1)] ?? ''
  return {
    json: {
      version: '1.0',
      added_tokens: addedTokens(metadata, tokens),
      normalizer: shape.normalizer,
      pre_tokenizer: shape.pre_tokenizer,
      post_processor: bosFirst(metadata, tokens, shape.bosByDefault),
      decoder: shape.decoder,
      model: {
        type: 'BPE',
        unk_token: null,
        ...shape.model,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      },
    } satisfies TokenizerJson,
    chatTemplate: typeof template === 'string' ? template : null,
    bosToken: tokenText('bos'),
    eosToken: tokenText('eos'),
  }
}

interface TokenizerShape {
  normalizer: object | null
  pre_tokenizer: object | null
  decoder: object
  model: Record<string, unknown>
  /** Whether a BOS comes first, for models of this kind that do not specify it. */
  bosByDefault: boolean
}

/** Post-processor that puts the BOS before a text, for models that need one. */
function bosFirst(metadata: Metadata, tokens: readonly string[], byDefault: boolean): object | null {
  const wanted = metadata.get('tokenizer.ggml.add_bos_token') ?? byDefault
  const id = Number(metadata.get('tokenizer.ggml.bos_token_id') ?? -1)
  const token = tokens[id]
  if (wanted !== true || token === undefined) return null
  const first = { SpecialToken: { id: token, type_id: 0 } }
  const text = (name: string) => ({ Sequence: { id: name, type_id: 0 } })
  return {
    type: 'TemplateProcessing',
    single: [first, text('A')],
    pair: [first, text('A'), first, text('B')],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  }
}

function byteLevel(metadata: Metadata, path: string): TokenizerShape {
  const name = metadata.get('tokenizer.ggml.pre')
  const pre =
    typeof name === 'string' && Object.hasOwn(PRE_TOKENIZERS, name) ? PRE_TOKENIZERS[name] : undefined
  if (pre === undefined) {
    throw new AppError(
      'unsupported_model',
      `${path}: pre-tokenizer ${JSON.stringify(name ?? null)} is not supported. ` +
        `Supported are ${Object.keys(PRE_TOKENIZERS).join(', ')}.`,
    )
  }
  return {
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: pre.pre_tokenizer,
    decoder: GPT2,
    model: {
      merges: strings(metadata, 'tokenizer.ggml.merges', path),
      ignore_merges: pre.ignore_merges ?? false,
    },
    // Vocabularies that ignore merges are LLaMA 3's.
    bosByDefault: pre.ignore_merges ?? false,
  }
}

/** Tokenizer of LLaMA 1 and 2: SentencePiece BPE, which ranks merges by the score of their result and falls back to bytes. */
function sentencePiece(metadata: Metadata, tokens: readonly string[]): TokenizerShape {
  const scores = metadata.get('tokenizer.ggml.scores')
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const prefix = metadata.get('tokenizer.ggml.add_space_prefix') !== false
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: prefix ? [{ type: 'Prepend', prepend: '▁' }, spaces] : [spaces],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      merges: mergesFromScores(tokens, Array.isArray(scores) ? (scores as number[]) : []),
      byte_fallback: true,
      fuse_unk: true,
      ignore_merges: false,
    },
    bosByDefault: true,
  }
}

function addedTokens(metadata: Metadata, tokens: readonly string[]): AddedToken[] {
  const types = metadata.get('tokenizer.ggml.token_type')
  if (!Array.isArray(types)) return []
  return tokens
    .map((content, id) => ({ id, content, type: types[id] }))
    .filter(({ type }) => type === CONTROL || type === USER_DEFINED)
    .map(({ id, content, type }) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type === CONTROL,
    }))
}

function strings(metadata: Metadata, key: string, path: string): string[] {
  const value: unknown = metadata.get(key)
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value
  throw new AppError(
    'unsupported_model',
    `${path}: ${key} is missing. Only models with their tokenizer inside are supported.`,
  )
}
