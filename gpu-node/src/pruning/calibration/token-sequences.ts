import { createRandom } from '../../platform/seeded-random.ts'
import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'

/** Minimum sequences of a calibration: fewer are not representative of a domain. */
const MIN_SEQUENCES = 2

/** Calibration text as sequences of tokens. */
export interface TokenSequences {
  /** `[sequences, length]` i32 row-major. */
  tokens: Int32Array
  sequences: number
  length: number
}

/**
 * Draws at most `samples` sequences of `length` consecutive tokens from texts.
 *
 * The texts are shuffled, encoded one by one, and concatenated with one separator token between two, as in the paper, until
 * there are enough tokens. The stream is cut into windows, and `samples` of them are drawn. Both draws depend only on `seed`
 * and the texts. If there are fewer tokens than needed, every full window is used. The stream begins with the BOS token if
 * the model's tokenizer adds one, as in the paper.
 *
 * @throws AppError `insufficient_samples` when there are fewer than two full windows, or with `exact` fewer than `samples`
 */
export function sampleSequences(
  texts: readonly string[],
  codec: TextCodec,
  options: {
    samples: number
    length: number
    seed: number
    /** Token that ends a document. */
    separator: number | undefined
    /** Whether fewer than `samples` full windows are an error. */
    exact?: boolean
  },
): TokenSequences {
  const { samples, length, seed, separator, exact } = options
  const random = createRandom(seed)
  const stream: number[] = []
  for (const text of shuffle(texts, random)) {
    if (stream.length >= samples * length) break
    if (stream.length > 0 && separator !== undefined) stream.push(separator)
    const tokens = stream.length === 0 ? codec.encodeDocument(text) : codec.encode(text)
    for (const token of tokens) stream.push(token)
  }
  const windows = Math.floor(stream.length / length)
  const needed = exact ? samples : Math.min(MIN_SEQUENCES, samples)
  if (windows < needed) {
    throw new AppError(
      'insufficient_samples',
      exact
        ? `${samples} sequences of ${length} tokens need ${samples * length} tokens, but the text has ${stream.length}, ` +
            `enough for ${windows}. Give more text, or ask for fewer or shorter sequences.`
        : `Calibration needs at least ${needed * length} tokens of text (${needed} sequences of ${length}), but ` +
            `the ${texts.length === 1 ? '1 sample has' : `${texts.length} samples have`} ${stream.length}. Collect more samples, or ask for shorter sequences.`,
    )
  }
  const all = Array.from({ length: windows }, (_, window) => window)
  const chosen = (windows > samples ? shuffle(all, random).slice(0, samples) : all).sort((a, b) => a - b)
  const tokens = new Int32Array(chosen.length * length)
  for (const [row, window] of chosen.entries()) {
    tokens.set(stream.slice(window * length, (window + 1) * length), row * length)
  }
  return { tokens, sequences: chosen.length, length }
}

/** Returns the items in random order (Fisher-Yates). */
function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items]
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const moved = order[i] as T
    order[i] = order[j] as T
    order[j] = moved
  }
  return order
}
