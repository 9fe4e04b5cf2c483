import { AppError } from '@copal/shared/errors.ts'
import type { SamplerSpec, TokenMask } from '../contract/backend.ts'
import type { AdjustedTokens } from './logit-adjuster.ts'
import type { SamplingCuts } from './logit-kernels.ts'
import type { WithheldTokens } from './withheld-tokens.ts'

/** The part of a row's logits that a device returns instead of all of them. */
export interface Candidates {
  /** The most probable tokens, most probable first, ties to the lower id: f32 `[candidates, 2]`, token and logit. */
  pairs: Float32Array
  vocabSize: number
  /** Sum of `exp(logit − largest)` over all tokens. */
  sum: number
  /** Sum of the weights `exp((logit − largest) / temperature)` over all tokens. */
  sumAtTemperature: number
  /** Where the random number falls among all tokens in the order of their ids; undefined if rounding hides it. */
  part: VocabularyPart | undefined
  /** An upper bound of the weights of all tokens that are not among the pairs; under a mask, in place of the two above. */
  unseen?: number
  /** Tokens that are not in any of the above but the size of the vocabulary; absent if there are none. */
  withheld?: WithheldTokens
}

/** Tokens whose ids follow each other. */
interface VocabularyPart {
  /** The first token. */
  start: number
  /** Sum of the weights of the tokens before `start`. */
  before: number
  /** Logits of the tokens, −∞ after the last token of the vocabulary. */
  logits: Float32Array
}

/** The inputs from which a device lists the {@link Candidates} of one token, and of those after its drafts. */
export interface CandidateRequest {
  temperature: number
  /** The random numbers that decide, one for each token, in [0, 1). */
  chances: readonly number[]
  /** The tokens to withhold from the candidates of each of them, because their logits are adjusted; absent if none are. */
  adjusted?: readonly AdjustedTokens[]
}

/** How many tokens a device returns and withholds for a row of logits. */
export interface CandidateLimits {
  /** Candidates that it returns. */
  count: number
  /** Tokens that it withholds, at most. */
  maxAdjusted: number
}

/** A token and its logit. */
interface Drawn {
  token: number
  logit: number
}

/** Bound of the errors of {@link Candidates.sumAtTemperature} and of `before`, in parts of the former. The GPU addon states it. */
const SUM_ERROR = 2 ** -16
/** Far more than two implementations in f64 differ by in a relative sum, and far less than the weight of any likely token. */
const ROUNDING = 1e-9
/** Below this temperature a device computes no sums. */
const MIN_TEMPERATURE = 0.01

/**
 * Returns the temperature at which a sampler needs {@link Candidates}; undefined if it needs the whole logits, as for a top-k of
 * more than the candidates.
 *
 * @param count candidates that the device returns
 */
export function candidateTemperature(spec: SamplerSpec, count: number): number | undefined {
  const { temperature, topK, minP, topLogprobs } = spec
  if (topLogprobs > count) return undefined
  if (temperature === 0) return 1
  const keepsMore = minP === 0 && topK > count
  return temperature < MIN_TEMPERATURE || keepsMore ? undefined : temperature
}

/**
 * Returns those of the candidates that a mask allows, as candidates of a vocabulary of the allowed tokens. The weights of
 * allowed tokens that are no candidates are unknown, but together they are at most those of all tokens that are no candidates,
 * and each is at most that of the last candidate.
 *
 * @param temperature the one at which the device added up the weights
 */
export function allowedCandidates(
  { pairs, sum, sumAtTemperature }: Candidates,
  allowed: TokenMask,
  temperature: number,
): Candidates {
  const count = pairs.length / 2
  const best = logitAt(pairs, 0)
  let others = sumAtTemperature * (1 + SUM_ERROR)
  const open = new Float32Array(pairs.length)
  let length = 0
  for (let rank = 0; rank < count; rank++) {
    const token = tokenAt(pairs, rank)
    others -= Math.exp((logitAt(pairs, rank) - best) / temperature)
    if ((((allowed[token >>> 5] ?? 0) >>> (token & 31)) & 1) === 0) continue
    open[length++] = token
    open[length++] = logitAt(pairs, rank)
  }
  let vocabSize = 0
  for (let index = 0; index < allowed.length; index++) vocabSize += bitCount(allowed[index] as number)
  const least = Math.exp((logitAt(pairs, count - 1) - best) / temperature)
  const rest = vocabSize - length / 2
  // Relative to the most probable token that is allowed.
  const scale = Math.exp((best - logitAt(open, 0)) / temperature)
  return {
    pairs: open.subarray(0, length),
    vocabSize,
    sum,
    sumAtTemperature: Number.NaN,
    part: undefined,
    unseen: rest === 0 ? 0 : Math.max(0, Math.min(others, rest * least)) * scale,
  }
}

/** Returns how many bits of a word are 1. */
function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555)
  const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333)
  return Math.imul((nibbles + (nibbles >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/**
 * Draws a token as `LogitKernels.draw` does from all logits, with the same result.
 *
 * @returns undefined if the candidates do not decide: a cut keeps more tokens, or the random number or a cut is so near a
 * border that rounding could change the token
 * @throws AppError `invalid_output` when a logit is NaN or none is finite
 */
export function drawFromCandidates(
  candidates: Candidates,
  cuts: SamplingCuts,
  chance: number,
): Drawn | undefined {
  const { pairs, vocabSize } = candidates
  if (pairs.length === 0) return undefined
  const best = logitAt(pairs, 0)
  requireLogit(best, pairs)
  if (cuts.temperature === 0) return { token: tokenAt(pairs, 0), logit: best }
  const isUncut = cuts.topK === 0 && cuts.minP === 0 && cuts.topP >= 1
  if (isUncut && candidates.unseen === undefined && pairs.length / 2 < vocabSize)
    return drawFromPart(candidates, best, { temperature: cuts.temperature, chance })
  const weights = weigh(candidates, best, cuts)
  const kept = weights && keepTopP(candidates, weights, cuts)
  const unseen = weights?.isComplete || cuts.topP < 1 ? 0 : candidates.unseen
  if (!kept || unseen === undefined) return undefined
  const rank = drawByToken(pairs, kept, chance, unseen)
  return rank === undefined ? undefined : { token: tokenAt(pairs, rank), logit: logitAt(pairs, rank) }
}

/** Draws from all tokens: that at `chance` of the total weight, in order of ids. Undefined near a border. */
function drawFromPart(
  { part, sumAtTemperature, vocabSize }: Candidates,
  best: number,
  { temperature, chance }: { temperature: number; chance: number },
): Drawn | undefined {
  if (!part) return undefined
  // The total weight and the weight before the part each have an error of SUM_ERROR.
  const error = 2 * SUM_ERROR * sumAtTemperature
  const remaining = chance * sumAtTemperature - part.before
  let mass = 0
  for (const [index, logit] of part.logits.entries()) {
    const token = part.start + index
    const end = mass + Math.exp((logit - best) / temperature)
    if (remaining < end && token < vocabSize) {
      const isCertain = (token === 0 || remaining - mass > error) && end - remaining > error
      return isCertain ? { token, logit } : undefined
    }
    mass = end
  }
  return undefined
}

/** Returns the logit of the candidate with a rank. */
export function logitAt(pairs: Float32Array, rank: number): number {
  return pairs[2 * rank + 1] as number
}

/** Returns the candidate with a rank. */
export function tokenAt(pairs: Float32Array, rank: number): number {
  return pairs[2 * rank] as number
}

/** The weights of tokens that min-p and top-k keep, by rank. */
interface Weights {
  weights: Float64Array
  /** Whether these are all tokens that the cuts keep. */
  isComplete: boolean
}

function requireLogit(best: number, pairs: Float32Array): void {
  if (Number.isFinite(best)) return
  throw new AppError(
    'invalid_output',
    Number.isNaN(best)
      ? `The model's logits are not numbers (token ${tokenAt(pairs, 0)}). Its weights are damaged.`
      : `The model's largest logit is ${best}, expected a finite one.`,
  )
}

/** Applies min-p and top-k. Undefined if a logit is at the border of min-p. */
function weigh(
  { pairs, vocabSize }: Candidates,
  best: number,
  { temperature, minP, topK }: SamplingCuts,
): Weights | undefined {
  const count = pairs.length / 2
  const floor = minP > 0 ? best + temperature * Math.log(minP) : -Infinity
  let kept = topK > 0 ? Math.min(topK, count) : count
  let isComplete = count === vocabSize || (topK > 0 && topK <= count)
  while (logitAt(pairs, kept - 1) < floor) {
    kept -= 1
    isComplete = true
  }
  const isNear = (logit: number) => logit !== best && Math.abs(logit - floor) < ROUNDING
  if (isNear(logitAt(pairs, kept - 1)) || (kept < count && isNear(logitAt(pairs, kept)))) return undefined
  const weights = Float64Array.from({ length: kept }, (_, rank) =>
    Math.exp((logitAt(pairs, rank) - best) / temperature),
  )
  return { weights, isComplete }
}

/** Applies top-p. Undefined if it keeps more than the candidates, or if its border is not certain. */
function keepTopP(
  { pairs, vocabSize, sumAtTemperature, unseen }: Candidates,
  { weights, isComplete }: Weights,
  { topP, topK, minP }: SamplingCuts,
): Float64Array | undefined {
  if (topP >= 1) return weights
  // The weight that the other cuts keep is unknown.
  const hasOtherCut = minP > 0 || (topK > 0 && topK < vocabSize)
  if (!isComplete && unseen === undefined && hasOtherCut) return undefined
  let total = sumAtTemperature
  let error = SUM_ERROR * total
  if (isComplete || unseen !== undefined) {
    const seen = weights.reduce((sum, weight) => sum + weight, 0)
    const half = isComplete ? 0 : (unseen ?? 0) / 2
    total = seen + half
    error = half + ROUNDING * total
  }
  const target = topP * total
  let count = 0
  let mass = 0
  let before = 0
  while (count < weights.length && (count === 0 || mass < target)) {
    before = mass
    mass += weights[count++] as number
  }
  const keepsAll = count === weights.length
  if (keepsAll && !isComplete) return undefined
  if (!keepsAll && !(mass - target > error)) return undefined
  if (count > 1 && !(target - before > error)) return undefined
  // Tokens of equal weight are kept by their ids. By rank is the same, unless logits that differ have the same weight.
  const last = count - 1
  const isOrdered = weights.every(
    (weight, rank) => weight !== weights[last] || logitAt(pairs, rank) === logitAt(pairs, last),
  )
  return isOrdered ? weights.subarray(0, count) : undefined
}

/**
 * Returns the rank of the token at `chance` of the total weight, where tokens are in order of their ids.
 *
 * @param unseen most weight of further tokens, which may be anywhere between these
 */
function drawByToken(
  pairs: Float32Array,
  weights: Float64Array,
  chance: number,
  unseen: number,
): number | undefined {
  const ranks = Uint16Array.from(weights, (_, rank) => rank).sort(
    (a, b) => tokenAt(pairs, a) - tokenAt(pairs, b),
  )
  const total = ranks.reduce((sum, rank) => sum + (weights[rank] as number), 0)
  const error = ROUNDING * total
  const remaining = chance * total
  let mass = 0
  for (const [index, rank] of ranks.entries()) {
    const end = mass + (weights[rank] as number)
    const isLast = unseen === 0 && index === ranks.length - 1
    if (remaining < end || isLast) {
      // All of the further tokens may be before it, or all behind it.
      const isCertain =
        ((index === 0 && unseen === 0) || remaining - mass > error + (1 - chance) * unseen) &&
        (isLast || end - remaining > error + chance * unseen)
      return isCertain ? rank : undefined
    }
    mass = end
  }
  return undefined
}
