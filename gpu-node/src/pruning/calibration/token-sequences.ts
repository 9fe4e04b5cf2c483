import { createHash } from 'node:crypto'
import { createRandom, shuffle } from '../../platform/seeded-random.ts'
import { AppError } from '@copal/shared/errors.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import type { Draw } from '../statistics/statistics-artifact.ts'

/** Minimum sequences of a calibration: fewer are not representative of a domain. */
const MIN_SEQUENCES = 2

/** Maximum tokens of a character of a text, as a multiple of the median of the texts. */
const MAX_DENSITY = 1.5

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
 * The texts are put in a random order, encoded one by one, and concatenated with one separator token between two, as in the
 * paper, until there are enough tokens. The stream is cut into windows, and `samples` of them are drawn. If there are fewer
 * tokens than needed, every full window is used. The stream begins with the BOS token if the model's tokenizer adds one, as in
 * the paper. Order and windows depend only on `draw`, `seed` and the texts:
 *
 * - `shuffled` shuffles the texts, then the windows. The published results of the laboratory were drawn by it.
 * - `stable` orders texts by their hashes, and windows by numbers of their own, so that one text more or less changes little of
 *   what is drawn of the others. A text gives at most {@link MAX_DENSITY} times as many tokens for its characters as the median
 *   text, its separator included, and its end is cut off: who gives a tenth of the characters must not give half of the tokens,
 *   by a script with several tokens a character or by texts of one.
 *
 * @throws AppError `insufficient_samples` when there are fewer than two full windows, or with `exact` fewer than `samples`
 */
export function sampleSequences(
  texts: readonly string[],
  codec: TextCodec,
  options: SequenceOptions,
): TokenSequences {
  const { samples, length, seed, draw } = options
  const random = createRandom(seed)
  const order = draw === 'stable' ? orderTexts(texts, seed) : shuffle(texts, random)
  const stream = concatenate(order, codec, options)
  const windows = Math.floor(stream.length / length)
  requireWindows(windows, { texts: texts.length, tokens: stream.length }, options)
  const chosen = (draw === 'stable' ? drawStable : drawShuffled)(windows, samples, random)
  const tokens = new Int32Array(chosen.length * length)
  for (const [row, window] of chosen.entries()) {
    tokens.set(stream.slice(window * length, (window + 1) * length), row * length)
  }
  return { tokens, sequences: chosen.length, length }
}

/** Options of {@link sampleSequences}. */
interface SequenceOptions {
  samples: number
  length: number
  seed: number
  draw: Draw
  /** Token that ends a document. */
  separator: number | undefined
  /** Whether fewer than `samples` full windows are an error. */
  exact?: boolean
}

/** Encodes texts in order and concatenates their tokens, until there are enough for all sequences. */
function concatenate(
  order: readonly string[],
  codec: TextCodec,
  { samples, length, draw, separator }: SequenceOptions,
): number[] {
  const needed = samples * length
  const encoded: EncodedText[] = []
  const encodeNext = () => {
    const text = order[encoded.length] ?? ''
    const tokens = encoded.length === 0 ? codec.encodeDocument(text) : codec.encode(text)
    encoded.push({ characters: text.length, tokens })
  }
  for (let total = 0; total < needed && encoded.length < order.length;) {
    encodeNext()
    total += (encoded.at(-1)?.tokens.length ?? 0) + 1
  }
  const maxDensity = draw === 'stable' ? MAX_DENSITY * medianDensity(encoded) : Number.POSITIVE_INFINITY
  const stream: number[] = []
  for (let text = 0; text < order.length && stream.length < needed; text++) {
    if (text === encoded.length) encodeNext()
    const { characters, tokens } = encoded[text]!
    // The first one begins with the BOS token.
    const least = text === 0 ? 1 : 0
    const kept = Math.min(tokens.length, Math.max(least, Math.ceil(characters * maxDensity) - 1))
    if (kept === 0) continue
    if (stream.length > 0 && separator !== undefined) stream.push(separator)
    for (let at = 0; at < kept; at++) stream.push(tokens[at]!)
  }
  return stream
}

/** @throws AppError `insufficient_samples` unless there are enough full windows */
function requireWindows(
  windows: number,
  found: { texts: number; tokens: number },
  { samples, length, exact }: SequenceOptions,
): void {
  const minWindows = exact ? samples : Math.min(MIN_SEQUENCES, samples)
  if (windows >= minWindows) return
  throw new AppError(
    'insufficient_samples',
    exact
      ? `${samples} sequences of ${length} tokens need ${samples * length} tokens, but the text has ${found.tokens}, ` +
          `enough for ${windows}. Give more text, or ask for fewer or shorter sequences.`
      : `Calibration needs at least ${minWindows * length} tokens of text (${minWindows} sequences of ${length}), but ` +
          `the ${found.texts === 1 ? '1 sample has' : `${found.texts} samples have`} ${found.tokens}. Collect more samples, or ask for shorter sequences.`,
  )
}

/**
 * Returns texts in the order of their hashes with the seed. That order is as random as a shuffle, but a text more only goes
 * between the others, so that it changes the mask by what it contains and not by how the others are mixed.
 */
function orderTexts(texts: readonly string[], seed: number): string[] {
  return texts
    .map((text) => ({ text, lot: createHash('sha256').update(`${seed}\n${text}`).digest('hex') }))
    .sort((one, other) => (one.lot < other.lot ? -1 : one.lot > other.lot ? 1 : 0))
    .map(({ text }) => text)
}

/** Returns `samples` of the windows, in order. */
function drawShuffled(windows: number, samples: number, random: () => number): number[] {
  const all = Array.from({ length: windows }, (_, window) => window)
  if (windows <= samples) return all
  return shuffle(all, random)
    .slice(0, samples)
    .sort((one, other) => one - other)
}

/** Returns the `samples` windows with the lowest lots, in order. The lot of a window does not depend on how many there are. */
function drawStable(windows: number, samples: number, random: () => number): number[] {
  return Array.from({ length: windows }, (_, window) => ({ window, lot: random() }))
    .sort((one, other) => one.lot - other.lot)
    .slice(0, samples)
    .map(({ window }) => window)
    .sort((one, other) => one - other)
}

interface EncodedText {
  characters: number
  tokens: readonly number[]
}

/** Returns the median of the tokens for each character, a separator included, in which each character counts alike. */
function medianDensity(texts: readonly EncodedText[]): number {
  const half = texts.reduce((sum, { characters }) => sum + characters, 0) / 2
  let counted = 0
  const densities = texts.map(({ characters, tokens }) => ({
    characters,
    value: (tokens.length + 1) / characters,
  }))
  for (const { characters, value } of densities.toSorted((one, other) => one.value - other.value)) {
    counted += characters
    if (counted >= half && characters > 0) return value
  }
  return Number.POSITIVE_INFINITY
}
