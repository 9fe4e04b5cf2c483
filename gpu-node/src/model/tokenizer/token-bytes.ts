import { AppError } from '@copal/shared/errors.ts'
import { byteLevelBytes } from './byte-level.ts'
import type { TokenizerJson } from './hub-codec.ts'

/** The largest vocabularies of published models have a quarter of a million tokens. */
const MAX_TOKENS = 2 ** 22

/**
 * Returns a function of the bytes of a token, none for an id without a token: the embedding may have more rows than the
 * vocabulary has tokens. They lie behind each other in one array, because each array of its own is two objects more that
 * every garbage collection visits.
 *
 * @param source what to name in errors
 * @throws AppError `unsupported_model` for an id that is no number below 4 million
 */
export function tokenByteTable(json: TokenizerJson, source: string): (id: number) => Uint8Array {
  const { bytes, ends } = joined(tokenPieces(json, source))
  return (id) => bytes.slice(ends[id - 1] ?? 0, ends[id] ?? 0)
}

/** Returns the bytes of every token by id. */
function tokenPieces(json: TokenizerJson, source: string): Uint8Array[] {
  const pieces: Uint8Array[] = []
  const put = (id: number, piece: Uint8Array) => {
    if (Number.isInteger(id) && id >= 0 && id < MAX_TOKENS) pieces[id] = piece
    else throw new AppError('unsupported_model', `${source}: the tokenizer has a token with the id ${id}.`)
  }
  const decode = isByteLevel(json)
    ? (token: string) => byteLevelBytes(token) ?? utf8.encode(token)
    : sentencePieceBytes
  for (const [token, id] of Object.entries(json.model.vocab)) put(id, decode(token))
  // Added tokens are plain text in either kind of vocabulary.
  for (const { id, content } of json.added_tokens) put(id, utf8.encode(content))
  return pieces
}

/** Returns pieces behind each other, and where each of them ends. */
function joined(pieces: readonly Uint8Array[]): { bytes: Uint8Array; ends: Uint32Array } {
  const ends = new Uint32Array(pieces.length)
  let end = 0
  for (let id = 0; id < pieces.length; id++) ends[id] = end += pieces[id]?.length ?? 0
  const bytes = new Uint8Array(end)
  pieces.forEach((piece, id) => bytes.set(piece, ends[id]! - piece.length))
  return { bytes, ends }
}

const utf8 = new TextEncoder()

function sentencePieceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token)
  return byte === null ? utf8.encode(token.replaceAll('▁', ' ')) : Uint8Array.of(parseInt(byte[1]!, 16))
}

/** Returns whether tokens are spelt in the byte alphabet; other vocabularies are SentencePiece's, with `▁` for the space. */
function isByteLevel(json: TokenizerJson): boolean {
  return JSON.stringify([json['pre_tokenizer'], json['decoder']]).includes('"ByteLevel"')
}
