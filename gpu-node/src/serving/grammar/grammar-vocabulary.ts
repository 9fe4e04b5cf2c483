import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError } from '@copal/shared/errors.ts'
import type { Addon, Vocabulary } from '../../../native/addon.d.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'

/** Tokens that are read before the event loop runs again: a few milliseconds. */
const TURN_TOKENS = 4096

/**
 * Passes a model's tokens to the addon: their bytes, and which are special.
 *
 * @throws AppError `unsupported_model` when the model has no end token, because it could not end its output
 */
export async function createVocabulary(
  addon: Pick<Addon, 'createVocabulary'>,
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>,
  { vocabSize, eosTokenIds }: Pick<LlamaConfig, 'vocabSize' | 'eosTokenIds'>,
): Promise<Vocabulary> {
  if (eosTokenIds.length === 0) {
    throw new AppError(
      'unsupported_model',
      'This model has no end token, so its output cannot follow a grammar.',
    )
  }
  const pieces: Uint8Array[] = []
  const special = new Uint8Array(vocabSize)
  for (let token = 0; token < vocabSize; token++) {
    if (token % TURN_TOKENS === 0) await nextTurn()
    pieces.push(codec.tokenBytes(token))
    special[token] = codec.isSpecial(token) ? 1 : 0
  }
  const lengths = Uint32Array.from(pieces, (piece) => piece.length)
  return addon.createVocabulary({
    bytes: Buffer.concat(pieces),
    lengths,
    special,
    endTokens: Uint32Array.from(eosTokenIds),
  })
}
