import type { SampledToken, SamplerSpec, TokenAlternative, TokenMask } from '../contract/backend.ts'
import type { LogitKernels } from './logit-kernels.ts'
import {
  allowedCandidates,
  candidateTemperature,
  drawFromCandidates,
  logitAt,
  tokenAt,
  type CandidateLimits,
  type CandidateRequest,
  type Candidates,
} from './candidates.ts'
import { createLogitAdjuster, type AdjustedTokens } from './logit-adjuster.ts'
import { randomDraw } from './random-draw.ts'
import { joinWithheld, type WithheldTokens } from './withheld-tokens.ts'

const NO_TOKENS = new Int32Array(0)
const NONE_WITHHELD: WithheldTokens = { tokens: NO_TOKENS, logits: new Float32Array(0) }

/** Samples the tokens of one sequence. */
export interface Sampler {
  /** Records the tokens from `position` on, prompt and sampled tokens alike; positions recorded before are skipped. */
  observe(tokens: Int32Array, position: number): void
  /**
   * Draws the token at `position`. The same logits, spec, position and tokens observed give the same token.
   *
   * @param logits `[vocab]` f32; overwritten with the penalised and masked ones
   * @param allowed tokens that may be drawn; null for all
   * @throws AppError `invalid_output` when a logit is NaN or none is finite
   */
  sample(logits: Float32Array, position: number, allowed?: TokenMask | null): SampledToken
  /**
   * Returns what a device needs for the {@link Candidates} of the token at `position` and of those after its drafts;
   * undefined if they rarely suffice, or if the device cannot list them.
   */
  candidateRequest(
    limits: CandidateLimits,
    position: number,
    drafts?: Int32Array,
  ): CandidateRequest | undefined
  /**
   * Draws the token that {@link sample} draws from all logits. Log-probabilities differ by the rounding of the device.
   * The drafts before `position` must have been observed.
   *
   * @param allowed tokens that may be drawn; null for all
   * @returns undefined if the candidates do not decide: then sample from the logits
   * @throws AppError as {@link sample} does
   */
  sampleFrom(candidates: Candidates, position: number, allowed?: TokenMask | null): SampledToken | undefined
}

/**
 * Creates a sampler with vLLM's semantics: biases, then repetition penalty over prompt and output (positive logits are
 * divided by it, others multiplied), then frequency and presence penalties over the output alone, then the mask,
 * temperature, min-p, top-k and top-p, in this order. Ties at a cut go to the lower id.
 *
 * The work is linear in the vocabulary: cuts are found by selection, not by sorting.
 */
export function createSampler(spec: SamplerSpec, kernels: LogitKernels): Sampler {
  const adjuster = createLogitAdjuster(spec)

  const chanceAt = (position: number) =>
    spec.temperature === 0 ? 0 : randomDraw(spec.seed, position - spec.promptTokens)

  return {
    observe: (tokens, position) => adjuster?.observe(tokens, position),

    sample(logits, position, allowed = null) {
      const wantsLogprobs = spec.topLogprobs >= 0
      const logSumExp = wantsLogprobs ? kernels.logSumExp(logits) : NaN
      const top = mostProbable(logits, Math.max(spec.topLogprobs, 0), logSumExp)
      const unpenalised = wantsLogprobs && (adjuster || allowed) ? logits.slice() : logits
      adjuster?.adjustAll(logits)
      if (allowed) forbidOthers(logits, allowed)
      const token = kernels.draw(logits, spec, chanceAt(position))
      return { token, logprob: (unpenalised[token] as number) - logSumExp, top }
    },

    candidateRequest({ count, maxAdjusted }, position, drafts = NO_TOKENS) {
      const temperature = candidateTemperature(spec, count)
      if (temperature === undefined) return undefined
      const places = Array.from({ length: 1 + drafts.length }, (_, place) => place)
      const chances = places.map((place) => chanceAt(position + place))
      if (!adjuster) return { temperature, chances }
      const adjusted: AdjustedTokens[] = []
      for (const place of places) {
        const list = adjuster.listAfter(drafts.subarray(0, place), maxAdjusted)
        if (!list) return undefined
        adjusted.push(list)
      }
      return { temperature, chances, adjusted }
    },

    sampleFrom(candidates, position, allowed = null) {
      const adjusted = adjuster
        ? joinWithheld(candidates, spec.temperature || 1, (token, logit) => adjuster.adjust(token, logit))
        : candidates
      const open = allowed ? allowedCandidates(adjusted, allowed, spec.temperature || 1) : adjusted
      const drawn = drawFromCandidates(open, spec, chanceAt(position))
      if (!drawn) return undefined
      if (spec.topLogprobs < 0) return { token: drawn.token, logprob: NaN, top: [] }
      const { pairs, sum } = joinWithheld(candidates, 1, (_, logit) => logit)
      const logSumExp = logitAt(pairs, 0) + Math.log(sum)
      const top = Array.from({ length: spec.topLogprobs }, (_, at) => ({
        token: tokenAt(pairs, at),
        logprob: logitAt(pairs, at) - logSumExp,
      }))
      const { tokens, logits } = candidates.withheld ?? NONE_WITHHELD
      const logit = logits[tokens.indexOf(drawn.token)] ?? drawn.logit
      return { token: drawn.token, logprob: logit - logSumExp, top }
    },
  }
}

/** Sets the logits of all tokens that are not allowed to −∞. */
function forbidOthers(logits: Float32Array, allowed: TokenMask): void {
  for (let begin = 0; begin < logits.length; begin += 32) {
    const word = allowed[begin >>> 5] ?? 0
    if (word === 0) logits.fill(-Infinity, begin, begin + 32)
    else if (word !== 0xffffffff)
      for (let bit = 0; bit < 32; bit++) if (((word >>> bit) & 1) === 0) logits[begin + bit] = -Infinity
  }
}

/** Returns the `count` largest logits as log-probabilities, by insertion into a short list; ties go to the lower id. */
export function mostProbable(logits: Float32Array, count: number, logSumExp: number): TokenAlternative[] {
  const top: TokenAlternative[] = []
  if (count === 0) return top
  let threshold = -Infinity
  for (let token = 0; token < logits.length; token++) {
    const logprob = (logits[token] as number) - logSumExp
    if (top.length === count && !(logprob > threshold)) continue
    if (top.length === count) top.pop()
    let place = top.length
    while (place > 0 && (top[place - 1] as TokenAlternative).logprob < logprob) place--
    top.splice(place, 0, { token, logprob })
    threshold = (top.at(-1) as TokenAlternative).logprob
  }
  return top
}
