import { createHash } from 'node:crypto'
import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '@copal/gpu-node/model/tokenizer/text-codec.ts'

/** The evaluation windows of one text. */
export interface EvaluationWindows {
  /** Each `[windowTokens]`. */
  windows: Int32Array[]
  /** SHA-256 over the tokens of all windows: what an evaluation depends on. */
  sha256: string
}

/** More characters than this a token are rare: so much text is encoded first, all of it only if that was too little. */
const CHARACTERS_PER_TOKEN = 16

/**
 * Cuts texts into windows as the paper does: joined by blank lines into one document that begins with the BOS
 * where the tokenizer puts one, non-overlapping windows of `windowTokens` tokens, the tail dropped.
 *
 * @throws AppError `insufficient_samples` when the text does not fill one window; says how many tokens there are
 */
export function cutEvaluationWindows(
  texts: readonly string[],
  codec: Pick<TextCodec, 'encodeDocument'>,
  windowTokens: number,
  maxWindows: number,
): EvaluationWindows {
  const document = texts.join('\n\n')
  const wanted = maxWindows * windowTokens
  // A margin: where the text is cut, its last tokens are not those of the whole.
  const start = document.slice(0, (wanted + 1024) * CHARACTERS_PER_TOKEN)
  let tokens = codec.encodeDocument(start)
  if (tokens.length < wanted + 1024 && start.length < document.length) tokens = codec.encodeDocument(document)
  const count = Math.min(maxWindows, Math.floor(tokens.length / windowTokens))
  if (count === 0) {
    throw new AppError(
      'insufficient_samples',
      `the evaluation text has ${tokens.length} tokens, not even one window of ${windowTokens}. ` +
        `Give more text, or smaller windows.`,
    )
  }
  const hash = createHash('sha256')
  const windows: Int32Array[] = []
  for (let index = 0; index < count; index++) {
    const window = Int32Array.from(tokens.slice(index * windowTokens, (index + 1) * windowTokens))
    hash.update(new Uint8Array(window.buffer))
    windows.push(window)
  }
  return { windows, sha256: hash.digest('hex') }
}
