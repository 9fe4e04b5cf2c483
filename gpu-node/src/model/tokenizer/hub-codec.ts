import { createHash } from 'node:crypto'
import { Tokenizer } from '@huggingface/tokenizers'
import { AppError } from '@copal/shared/errors.ts'
import { createChatTemplate } from './chat-template.ts'
import type { TextCodec } from './text-codec.ts'
import { tokenByteTable } from './token-bytes.ts'

/** A token that is recognised in text as a whole. */
export interface AddedToken {
  id: number
  content: string
  /** A control token: never part of the output text. */
  special: boolean
}

/** Source of a text codec, independent of where it was stored. */
export interface TokenizerDescription {
  /** Tokenizer in the form of a Hugging Face tokenizer.json. */
  json: TokenizerJson
  chatTemplate: string | null
  bosToken: string
  eosToken: string
}

/** The parts of a tokenizer.json that this file reads; the library reads the others. */
export interface TokenizerJson {
  added_tokens: AddedToken[]
  model: { type: string; vocab: Record<string, number>; [key: string]: unknown }
  [key: string]: unknown
}

/** Returns the SHA-256 over everything that decides how a text is tokenized. */
export function tokenizerSha256({ json }: TokenizerDescription): string {
  return createHash('sha256').update(JSON.stringify(json)).digest('hex')
}

/**
 * Creates the text codec of a model.
 *
 * @param source what to name in errors
 * @throws AppError `unsupported_model` when the library does not know the tokenizer's parts
 */
export function createCodec(description: TokenizerDescription, source: string): TextCodec {
  const tokenizer = createTokenizer(description.json, source)
  const tokenBytes = tokenByteTable(description.json, source)
  const special = new Set(description.json.added_tokens.filter((token) => token.special).map(({ id }) => id))
  const template = createChatTemplate(description.chatTemplate, description, source)
  const encode = (text: string) =>
    text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids
  const prefix = prefixOf(tokenizer)
  return {
    encode,
    encodeDocument(text) {
      const ids = encode(text)
      const written = prefix.every((id, index) => ids[index] === id)
      return written ? ids : [...prefix, ...ids]
    },
    tokenBytes,
    isSpecial: (id) => special.has(id),
    rendersTools: template.rendersTools,
    renderChat: (messages, tools) => template.render(messages, tools),
  }
}

function createTokenizer(json: TokenizerJson, source: string): Tokenizer {
  if (json.model.type !== 'BPE') {
    throw new AppError(
      'unsupported_model',
      `${source}: tokenizer model ${json.model.type} is not supported, only BPE.`,
    )
  }
  // The library keeps the vocabulary and the merges that it is given, some 300,000 objects, though it reads them only now.
  // These copies are emptied then: every full garbage collection would visit them, and streams wait for it.
  const merges = mergePairs(json.model['merges'])
  const model = { ...json.model, merges }
  try {
    const tokenizer = new Tokenizer({ ...json, model }, { clean_up_tokenization_spaces: false })
    merges.length = 0
    model.vocab = {}
    return tokenizer
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('unsupported_model', `${source}: the tokenizer is not supported (${reason}).`, {
      cause,
    })
  }
}

/** Returns a copy of the merges as pairs; a tokenizer.json has them as pairs or as text. */
function mergePairs(merges: unknown): unknown[] {
  if (!Array.isArray(merges)) return []
  return merges.map((merge: unknown) => (typeof merge === 'string' ? merge.split(' ', 2) : merge))
}

/** Returns the tokens that the post-processor puts before a text: the BOS, for models trained with one. */
function prefixOf(tokenizer: Tokenizer): number[] {
  const text = 'a'
  const [first] = tokenizer.encode(text, { add_special_tokens: false }).ids
  const whole = tokenizer.encode(text, { add_special_tokens: true }).ids
  return whole.slice(0, whole.indexOf(first ?? -1))
}
