import { createRandom } from '../../platform/seeded-random.ts'
import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'

/** Fewer sequences than this say too little about a domain. */
const MIN_SEQUENCES = 2

/** Calibration text as the model reads it: `tokens` is `[sequences, length]` i32 row-major. */
export interface TokenSequences {
  tokens: Int32Array
  sequences: number
  length: number
}

/**
 * Cuts texts into at most `samples` sequences of `length` consecutive tokens.
 *
 * The texts are shuffled, encoded one by one and laid end to end with one separator token between two (the
 * paper concatenates too), until there are enough tokens; the stream is cut into windows and `samples` of
 * them are chosen. Both draws depend on `seed` and the texts alone. With fewer tokens than asked for, every
 * full window is used. The stream begins with the BOS where the model's tokenizer puts one, as the paper's does.
 *
 * @param separator token that ends a document
 * @throws AppError `insufficient_samples` when there are not even two full windows, or not all where `exact`
 */
export function sampleSequences(
  texts: readonly string[],
  codec: TextCodec,
  options: {
    samples: number
    length: number
    seed: number
    separator: number | undefined
    /** Fewer than `samples` full windows are refused. */
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
        ? `${samples} sequences of ${length} tokens take ${samples * length} tokens, the text has ${stream.length}: ` +
            `enough for ${windows} of them. Give more text, or ask for fewer or shorter sequences.`
        : `Calibration needs at least ${needed * length} tokens of text (${needed} sequences of ${length}); ` +
            `the ${texts.length === 1 ? '1 sample has' : `${texts.length} samples have`} ${stream.length}. Collect more, or ask for shorter sequences.`,
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

/** Fisher-Yates. */
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
