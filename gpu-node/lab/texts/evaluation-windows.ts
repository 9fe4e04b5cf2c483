import { createHash } from 'node:crypto'
import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '@copal/gpu-node/model/tokenizer/text-codec.ts'

/** The evaluation windows of one text. */
export interface EvaluationWindows {
  /** Windows of `windowTokens` tokens. */
  windows: Int32Array[]
  /** SHA-256 of the tokens of all windows, on which an evaluation depends. */
  sha256: string
}

/** Upper estimate. That much text is encoded first; the whole text only if it gives too few tokens. */
const CHARACTERS_PER_TOKEN = 16

/**
 * Cuts texts into windows as the paper does: they are joined by blank lines into one document, which begins with BOS if
 * the tokenizer adds one, and cut into non-overlapping windows of `windowTokens` tokens. The tail is dropped.
 *
 * @throws AppError `insufficient_samples` if the text does not fill one window, with its number of tokens
 */
export function cutEvaluationWindows(
  texts: readonly string[],
  codec: Pick<TextCodec, 'encodeDocument'>,
  windowTokens: number,
  maxWindows: number,
): EvaluationWindows {
  const document = texts.join('\n\n')
  const wanted = maxWindows * windowTokens
  // The margin covers tokens at the cut, which may differ from those of the whole text.
  const start = document.slice(0, (wanted + 1024) * CHARACTERS_PER_TOKEN)
  let tokens = codec.encodeDocument(start)
  if (tokens.length < wanted + 1024 && start.length < document.length) tokens = codec.encodeDocument(document)
  const count = Math.min(maxWindows, Math.floor(tokens.length / windowTokens))
  if (count === 0) {
    throw new AppError(
      'insufficient_samples',
      `the evaluation text has ${tokens.length} tokens, less than one window of ${windowTokens}. ` +
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
