import { createHash } from 'node:crypto'
import { Tokenizer } from '@huggingface/tokenizers'
import { AppError } from '@copal/shared/errors.ts'
import { byteLevelBytes } from './byte-level.ts'
import { createChatTemplate } from './chat-template.ts'
import type { TextCodec } from './text-codec.ts'

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
  const bytes = tokenByteTable(description.json)
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
    tokenBytes(id) {
      const found = bytes[id]
      // The embedding may have more rows than the vocabulary has tokens; such a token has no text.
      return found === undefined ? new Uint8Array(0) : found.slice()
    },
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
  try {
    return new Tokenizer(json, { clean_up_tokenization_spaces: false })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('unsupported_model', `${source}: the tokenizer is not supported (${reason}).`, {
      cause,
    })
  }
}

/** Returns the tokens that the post-processor puts before a text: the BOS, for models trained with one. */
function prefixOf(tokenizer: Tokenizer): number[] {
  const text = 'a'
  const [first] = tokenizer.encode(text, { add_special_tokens: false }).ids
  const whole = tokenizer.encode(text, { add_special_tokens: true }).ids
  return whole.slice(0, whole.indexOf(first ?? -1))
}

/** Returns the bytes of every token by id. */
function tokenByteTable(json: TokenizerJson): Uint8Array[] {
  const utf8 = new TextEncoder()
  const decode = isByteLevel(json)
    ? (token: string) => byteLevelBytes(token) ?? utf8.encode(token)
    : (token: string) => {
        const byte = /^<0x([0-9A-F]{2})>$/.exec(token)
        return byte === null ? utf8.encode(token.replaceAll('▁', ' ')) : Uint8Array.of(parseInt(byte[1]!, 16))
      }
  const table: Uint8Array[] = []
  for (const [token, id] of Object.entries(json.model.vocab)) table[id] = decode(token)
  // Added tokens are plain text in either kind of vocabulary.
  for (const { id, content } of json.added_tokens) table[id] = utf8.encode(content)
  return table
}

/** Returns whether tokens are spelt in the byte alphabet; other vocabularies are SentencePiece's, with `▁` for the space. */
function isByteLevel(json: TokenizerJson): boolean {
  return JSON.stringify([json['pre_tokenizer'], json['decoder']]).includes('"ByteLevel"')
}
