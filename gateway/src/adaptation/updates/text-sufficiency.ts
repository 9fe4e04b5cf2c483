import { AppError } from '@copal/shared/errors.ts'

/** Estimate for English text; the node, which has the tokenizer, counts exactly. */
const CHARACTERS_PER_TOKEN = 4
/** Minimum size of a dataset, as a fraction of the demand of an update. */
const MIN_FRACTION = 1 / 4
/** Minimum number of sequences that a node calibrates on, unless the update asks for fewer. */
const MIN_SAMPLES = 2
/** Minimum windows of held-out text: more than one, because the number of tokens is an estimate. */
const MIN_WINDOWS = 1.25
/** Minimum windows of held-out text of a domain that the update does not name. */
const AMPLE_WINDOWS = 4

/** The maximum text that an update takes of each domain: `samples` sequences of `length` tokens. */
export interface TextDemand {
  samples: number
  length: number
}

/** Returns the characters to take of a domain: twice the demand in English, to be enough also for denser tokens. */
export function charactersToTake({ samples, length }: TextDemand): number {
  return samples * length * CHARACTERS_PER_TOKEN * 2
}

/**
 * Checks that a domain has enough text to calibrate on: a quarter of the demand, and at least two sequences.
 *
 * @throws AppError `insufficient_samples` with the domain and the available and needed tokens
 */
export function requireSamples(domain: string, characters: number, demand: TextDemand): void {
  const { samples, length } = demand
  const minSamples = Math.min(MIN_SAMPLES, samples)
  const needed = Math.max(minSamples * length, Math.ceil(samples * length * MIN_FRACTION))
  const available = estimateTokens(characters)
  if (available >= needed) return
  throw new AppError(
    'insufficient_samples',
    `Domain '${domain}' has about ${available} tokens of samples, at least ${needed} are needed ` +
      `(a quarter of ${samples === 1 ? '1 sample' : `${samples} samples`} of ${length} tokens, and ${minSamples} of them at least). Send more consenting traffic, ` +
      `import texts with 'POST /admin/domains/${domain}/texts', or ask for fewer or shorter samples.`,
    { param: 'domains' },
  )
}

/**
 * Checks that a domain has enough held-out text to evaluate a mask on.
 *
 * @throws AppError `insufficient_samples` with the domain and the available and needed tokens
 */
export function requireHoldout(domain: string, characters: number, windowTokens: number): void {
  const needed = Math.ceil(windowTokens * MIN_WINDOWS)
  const available = estimateTokens(characters)
  if (available >= needed) return
  throw new AppError(
    'insufficient_samples',
    `Domain '${domain}' has about ${available} tokens of held-out text, at least ${needed} are needed to evaluate a mask. ` +
      'About one text in four is held out: send more consenting traffic, or import more texts with ' +
      `'POST /admin/domains/${domain}/texts'.`,
    { param: 'domains' },
  )
}

/** Returns whether a domain that the update does not name has enough held-out text to be evaluated too. */
export function hasAmpleHoldout(characters: number, windowTokens: number): boolean {
  return estimateTokens(characters) >= windowTokens * AMPLE_WINDOWS
}

function estimateTokens(characters: number): number {
  return Math.floor(characters / CHARACTERS_PER_TOKEN)
}
