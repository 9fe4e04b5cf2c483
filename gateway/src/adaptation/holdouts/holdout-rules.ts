/** Rules of holdouts, as pure functions: when a version is created, and how much held-out text an update needs. */
import { AppError } from '@copal/shared/errors.ts'

/** Estimate for English text, whose characters are single bytes; the node, which has the tokenizer, counts exactly. */
export const CHARACTERS_PER_TOKEN = 4
/** Every holdout grows until it has this size: the bound of a paired comparison is then about 1 % wide. */
const MIN_TARGET_TOKENS = 8_192
/** Maximum size of a version, because every mask is evaluated on all of it. */
const MAX_HOLDOUT_TOKENS = 32_768
/**
 * The size of all holdouts together, of which each domain has its share of the traffic. Where none is cut by the limits above, the
 * bound of the weighted mean is as narrow as that of one holdout of this size, however the traffic is distributed.
 */
const TARGET_TOKENS_OF_ALL = 65_536
/** The text to take for a version, bytes. */
export const MAX_HOLDOUT_BYTES = MAX_HOLDOUT_TOKENS * CHARACTERS_PER_TOKEN
/** A domain with less cannot be updated alone. */
export const MIN_HOLDOUT_TOKENS = 1_024
/** A new version must be larger than the one before by this factor, because the masks are evaluated on it again. */
const MIN_GROWTH = 1.25
/** The factor from {@link MIN_TARGET_TOKENS} on, where an evaluation takes longer. */
const MIN_GROWTH_OF_LARGE = 1.5
/** Minimum windows of held-out text: more than one, because the number of tokens is an estimate. */
const MIN_WINDOWS = 1.25
/** Minimum windows of held-out text of a domain that the update does not name. */
const AMPLE_WINDOWS = 4

/** The held-out text of a domain. */
export interface HeldOutText {
  domain: string
  /** Characters of its latest version; undefined if it has none. */
  latest: number | undefined
  /** Characters in the reservoir. */
  reservoir: number
  /** Tokens up to which its versions grow; {@link MIN_TARGET_TOKENS} if left out. */
  target?: number
}

/** Returns the estimated number of tokens of a text. */
export function estimateTokens(characters: number): number {
  return Math.floor(characters / CHARACTERS_PER_TOKEN)
}

/**
 * Returns the size to which the holdout of a domain grows. The weighted mean over the domains is as uncertain as the domains with
 * most traffic, so these get more held-out text.
 *
 * @param share of the traffic, from 0 to 1
 */
export function targetTokens(share: number): number {
  return Math.min(MAX_HOLDOUT_TOKENS, Math.max(MIN_TARGET_TOKENS, TARGET_TOKENS_OF_ALL * share))
}

/**
 * Returns whether a domain gets a new version, made of the held-out text in the reservoir: it has none, or it is below the
 * target and the reservoir holds clearly more.
 */
export function needsVersion({
  latest,
  reservoir,
  target = MIN_TARGET_TOKENS,
}: Omit<HeldOutText, 'domain'>): boolean {
  if (latest === undefined) return reservoir > 0
  const tokens = estimateTokens(latest)
  const growth = tokens < MIN_TARGET_TOKENS ? MIN_GROWTH : MIN_GROWTH_OF_LARGE
  return tokens < target && reservoir >= latest * growth
}

/** Returns the estimated tokens that a mask of the domain would be evaluated on. */
export function heldOutTokens(text: Omit<HeldOutText, 'domain'>): number {
  const characters = needsVersion(text) ? Math.min(text.reservoir, MAX_HOLDOUT_BYTES) : text.latest
  return estimateTokens(characters ?? 0)
}

/** Returns the held-out tokens that a domain needs to be evaluated with updates that do not name it. */
export function ampleHoldoutTokens(windowTokens: number): number {
  return windowTokens * AMPLE_WINDOWS
}

/** Returns whether a domain that the update does not name has enough held-out text to be evaluated too. */
export function hasAmpleHoldout(characters: number, windowTokens: number): boolean {
  return estimateTokens(characters) >= ampleHoldoutTokens(windowTokens)
}

/** Returns the held-out tokens that each domain of an update needs, and that one of them needs, which judges the mask alone. */
export function minHeldOutTokens(windowTokens: number): { each: number; alone: number } {
  const each = Math.ceil(windowTokens * MIN_WINDOWS)
  return { each, alone: Math.max(each, MIN_HOLDOUT_TOKENS) }
}

/**
 * Checks that an update's domains have enough held-out text to judge a mask: each at least one evaluation window, and one
 * of them at least {@link MIN_HOLDOUT_TOKENS}.
 *
 * @throws AppError `insufficient_samples` that names a domain and the tokens that it lacks
 */
export function requireHoldouts(texts: readonly HeldOutText[], windowTokens: number): void {
  const { each: minTokens, alone: needed } = minHeldOutTokens(windowTokens)
  const measured = texts.map((text) => ({ domain: text.domain, tokens: heldOutTokens(text) }))
  for (const { domain, tokens } of measured) {
    if (tokens < minTokens) throw tooLittle(domain, tokens, minTokens, 'needed to evaluate a mask')
  }
  const largest = measured.toSorted((one, other) => other.tokens - one.tokens)[0]
  if (!largest || largest.tokens >= needed) return
  const purpose =
    texts.length === 1
      ? 'needed to judge a mask by this domain alone'
      : 'needed in one of the domains of the update'
  throw tooLittle(largest.domain, largest.tokens, needed, purpose)
}

function tooLittle(domain: string, tokens: number, needed: number, purpose: string): AppError {
  return new AppError(
    'insufficient_samples',
    `Domain '${domain}' has about ${tokens} tokens of held-out text, ${needed - tokens} fewer than the ${needed} that are ` +
      `${purpose}. About one conversation or text in four is held out: send more consenting traffic, or import ` +
      `more texts with 'POST /admin/domains/${domain}/texts'.`,
    { param: 'domains' },
  )
}
