import { AppError } from '@copal/shared/errors.ts'

/** Of English text; the node, which has the tokenizer, counts exactly. */
const CHARACTERS_PER_TOKEN = 4
/** A dataset may be this much smaller than what an update asks for. */
const LEAST_FRACTION = 1 / 4
/** A node calibrates on no fewer samples, unless it was asked for fewer. */
const LEAST_SAMPLES = 2
/** So that a holdout yields at least one window even where a token is fewer characters than usual. */
const LEAST_WINDOWS = 1.25
/** Domains that were never calibrated on are evaluated from this many windows on. */
const COMFORTABLE_WINDOWS = 4

/** How much text an update takes of each domain, at most. */
export interface Demand {
  samples: number
  length: number
}

/** Characters to take of a domain: twice what the demand is worth in English, for texts of more tokens a character. */
export function charactersToTake({ samples, length }: Demand): number {
  return samples * length * CHARACTERS_PER_TOKEN * 2
}

/**
 * Checks that a domain has enough text to calibrate on: a quarter of the demand, and two samples at least.
 *
 * @throws AppError `insufficient_samples` that names the domain, what there is and what is needed
 */
export function requireSamples(domain: string, characters: number, demand: Demand): void {
  const { samples, length } = demand
  const least = Math.min(LEAST_SAMPLES, samples)
  const needed = Math.max(least * length, Math.ceil(samples * length * LEAST_FRACTION))
  const available = estimateTokens(characters)
  if (available >= needed) return
  throw new AppError(
    'insufficient_samples',
    `Domain '${domain}' has about ${available} tokens of samples, at least ${needed} are needed ` +
      `(a quarter of ${samples === 1 ? '1 sample' : `${samples} samples`} of ${length} tokens, and ${least} of them at least). Send more consenting traffic, ` +
      `import texts with 'POST /admin/domains/${domain}/texts', or ask for fewer or shorter samples.`,
    { param: 'domains' },
  )
}

/**
 * Checks that a domain has enough held-out text to see what a mask does to it.
 *
 * @throws AppError `insufficient_samples` that names the domain, what there is and what is needed
 */
export function requireHoldout(domain: string, characters: number, windowTokens: number): void {
  const needed = Math.ceil(windowTokens * LEAST_WINDOWS)
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

/** Whether a domain that no update asks for has so much held-out text that it is evaluated along. */
export function hasComfortableHoldout(characters: number, windowTokens: number): boolean {
  return estimateTokens(characters) >= windowTokens * COMFORTABLE_WINDOWS
}

function estimateTokens(characters: number): number {
  return Math.floor(characters / CHARACTERS_PER_TOKEN)
}
