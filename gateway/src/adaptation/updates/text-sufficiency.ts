import { AppError } from '@copal/shared/errors.ts'
import { CHARACTERS_PER_TOKEN, estimateTokens } from '../holdouts/holdout-rules.ts'

/**
 * How much text an update takes, as a multiple of its demand. The margin is for texts with more bytes to a token than
 * estimated; it is small, because texts that are taken but not calibrated on are lost to later updates.
 */
const TAKE_FACTOR = 1.25
/** Minimum size of a dataset, as a fraction of the demand of an update. */
const MIN_FRACTION = 1 / 4
/** Minimum number of sequences that a node calibrates on, unless the update asks for fewer. */
const MIN_SAMPLES = 2

/** The maximum text that an update takes of each domain: `samples` sequences of `length` tokens. */
export interface TextDemand {
  samples: number
  length: number
}

/** Returns the bytes to take of a domain. */
export function bytesToTake({ samples, length }: TextDemand): number {
  return Math.ceil(samples * length * CHARACTERS_PER_TOKEN * TAKE_FACTOR)
}

/** Returns the tokens that a dataset needs: a quarter of the demand, and at least two sequences. */
function neededTokens({ samples, length }: TextDemand): number {
  return Math.max(Math.min(MIN_SAMPLES, samples) * length, Math.ceil(samples * length * MIN_FRACTION))
}

/** Returns whether text is enough for a dataset. */
export function isEnough(bytes: number, demand: TextDemand): boolean {
  return estimateTokens(bytes) >= neededTokens(demand)
}

/** Returns the estimated tokens that text lacks for a dataset. */
export function missingTokens(bytes: number, demand: TextDemand): number {
  return Math.max(0, neededTokens(demand) - estimateTokens(bytes))
}

/**
 * Creates the error for a domain that has neither statistics nor enough new text.
 *
 * @returns AppError `insufficient_samples` with the domain and the available, needed and missing tokens
 */
export function tooFewSamples(domain: string, bytes: number, demand: TextDemand): AppError {
  const { samples, length } = demand
  const [available, needed] = [estimateTokens(bytes), neededTokens(demand)]
  return new AppError(
    'insufficient_samples',
    `Domain '${domain}' has about ${available} tokens of new samples, ${needed - available} fewer than the ${needed} that are needed ` +
      `(a quarter of ${samples === 1 ? '1 sample' : `${samples} samples`} of ${length} tokens, and ${Math.min(MIN_SAMPLES, samples)} of them at least). ` +
      `Send more consenting traffic, import texts with 'POST /admin/domains/${domain}/texts', or ask for fewer or shorter samples.`,
    { param: 'domains' },
  )
}
