import type { SampledToken, SamplerSpec, TokenAlternative, TokenMask } from '../contract/backend.ts'
import type { LogitKernels } from './logit-kernels.ts'
import {
  allowedCandidates,
  candidateTemperature,
  drawFromCandidates,
  logitAt,
  tokenAt,
  type CandidateRequest,
  type Candidates,
} from './candidates.ts'
import { randomDraw } from './random-draw.ts'

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
   * undefined if they rarely suffice.
   *
   * @param count candidates that the device returns
   * @param isMasked whether the tokens that may be drawn will be restricted
   */
  candidateRequest(
    count: number,
    position: number,
    drafts?: number,
    isMasked?: boolean,
  ): CandidateRequest | undefined
  /**
   * Draws the token that {@link sample} draws from all logits. Log-probabilities differ by the rounding of the device.
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
  const penalised = spec.presencePenalty !== 0 || spec.frequencyPenalty !== 0
  const countsTokens = penalised || spec.repetitionPenalty !== 1
  const biases = spec.logitBias ?? []
  /** How often each token was generated; 0 for tokens that are only in the prompt. */
  const generated = new Map<number, number>()
  let seen = 0

  const penalise = (logits: Float32Array) => {
    for (const [token, count] of generated) {
      let logit = logits[token] as number
      logit = logit > 0 ? logit / spec.repetitionPenalty : logit * spec.repetitionPenalty
      logit -= count * spec.frequencyPenalty + (count > 0 ? spec.presencePenalty : 0)
      logits[token] = logit
    }
  }

  const chanceAt = (position: number) =>
    spec.temperature === 0 ? 0 : randomDraw(spec.seed, position - spec.promptTokens)

  return {
    observe(tokens, position) {
      if (!countsTokens) return
      for (const [offset, token] of tokens.entries()) {
        if (position + offset < seen) continue
        const isOutput = position + offset >= spec.promptTokens
        generated.set(token, (generated.get(token) ?? 0) + (isOutput ? 1 : 0))
      }
      seen = Math.max(seen, position + tokens.length)
    },

    sample(logits, position, allowed = null) {
      const wantsLogprobs = spec.topLogprobs >= 0
      const logSumExp = wantsLogprobs ? kernels.logSumExp(logits) : NaN
      const top = mostProbable(logits, Math.max(spec.topLogprobs, 0), logSumExp)
      const unpenalised =
        wantsLogprobs && (countsTokens || biases.length > 0 || allowed) ? logits.slice() : logits
      for (const { token, bias } of biases) logits[token] = (logits[token] as number) + bias
      if (countsTokens) penalise(logits)
      if (allowed) forbidOthers(logits, allowed)
      const token = kernels.draw(logits, spec, chanceAt(position))
      return { token, logprob: (unpenalised[token] as number) - logSumExp, top }
    },

    candidateRequest(count, position, drafts = 0, isMasked = false) {
      const temperature = candidateTemperature(spec, count, isMasked)
      if (temperature === undefined) return undefined
      const chances = Array.from({ length: 1 + drafts }, (_, place) => chanceAt(position + place))
      return { temperature, chances }
    },

    sampleFrom(candidates, position, allowed = null) {
      const { pairs, sum } = candidates
      const open = allowed ? allowedCandidates(candidates, allowed) : candidates
      const drawn = drawFromCandidates(open, spec, chanceAt(position))
      if (!drawn) return undefined
      const logSumExp = spec.topLogprobs >= 0 ? logitAt(pairs, 0) + Math.log(sum) : NaN
      const top = Array.from({ length: Math.max(spec.topLogprobs, 0) }, (_, at) => ({
        token: tokenAt(pairs, at),
        logprob: logitAt(pairs, at) - logSumExp,
      }))
      return { token: drawn.token, logprob: drawn.logit - logSumExp, top }
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
