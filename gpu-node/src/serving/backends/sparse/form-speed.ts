import { z } from 'zod'
import { createRandom } from '../../../platform/seeded-random.ts'

/** Schema of a {@link FormSpeed} as the cache folder stores it. */
export const formSpeed = z.object({
  tokens: z.int().min(1),
  packedSpeed: z.number().positive(),
  low: z.number().positive(),
  high: z.number().positive(),
})

/**
 * How fast packed weights are, relative to dense ones, when so many tokens are multiplied at once, and the interval in
 * which 90 % of repeated measurements would lie.
 */
export type FormSpeed = z.output<typeof formSpeed>

/** The times of both forms in one round of a measurement, seconds. */
export interface FormTimes {
  packed: number
  dense: number
}

/** Rounds that are always measured. */
export const MIN_ROUNDS = 7
/** Rounds after which a measurement ends, however far its rounds lie apart. */
export const MAX_ROUNDS = 21
/** A speed is settled when the ends of its interval are this close. */
const SETTLED_RATIO = 1.06
/** Figures with a wider interval than this are uncertain. */
const CERTAIN_RATIO = 1.1
/**
 * The quantile of the times that is compared. Other work only ever makes a time longer, so short times tell more than long
 * ones; but the shortest one is at times too short to be true: a tenth of the rounds is not looked at.
 */
const QUANTILE = 0.1
/** Repetitions of the measurement that are drawn from its rounds. */
const DRAWS = 200
/** The part of the drawn repetitions that is below, and above, the interval. */
const TAIL = 0.05

/**
 * Summarises the rounds of a measurement, at least one: the ratio of the short times, and how it would have differed with
 * other rounds. Those are drawn from the ones that were measured (the bootstrap), in the same way for the same rounds.
 */
export function speedOf(tokens: number, rounds: readonly FormTimes[]): FormSpeed {
  const random = createRandom(rounds.length)
  const drawn = Array.from({ length: DRAWS }, () =>
    ratioOf(rounds.map(() => rounds[Math.floor(random() * rounds.length)] as FormTimes)),
  )
  return {
    tokens,
    packedSpeed: ratioOf(rounds),
    low: quantile(drawn, TAIL),
    high: quantile(drawn, 1 - TAIL),
  }
}

function ratioOf(rounds: readonly FormTimes[]): number {
  const short = (form: keyof FormTimes) =>
    quantile(
      rounds.map((times) => times[form]),
      QUANTILE,
    )
  return short('dense') / short('packed')
}

function quantile(values: readonly number[], part: number): number {
  return values.toSorted((a, b) => a - b)[Math.round(part * (values.length - 1))] ?? Number.NaN
}

/** Returns whether more rounds would not narrow the speed much. */
export function isSettled({ low, high }: FormSpeed): boolean {
  return high <= SETTLED_RATIO * low
}

/** Returns whether a speed is certain enough to be kept for good. */
export function isCertain({ low, high }: FormSpeed): boolean {
  return high <= CERTAIN_RATIO * low
}

/** Returns the speed with the narrower interval, the first one of equal ones. */
export function narrower(one: FormSpeed, other: FormSpeed): FormSpeed {
  return other.high / other.low < one.high / one.low ? other : one
}
