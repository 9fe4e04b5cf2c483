import { AppError } from '@copal/shared/errors.ts'
import type { SamplerSpec, TokenAlternative, TokenMask } from '../backends/backend.ts'
import { randomDraw } from './random-draw.ts'

/** What was drawn. `logprob` is NaN and `top` empty where the spec asks for no log-probabilities. */
export interface SampledToken {
  token: number
  /** Natural logarithm of the token's probability, unpenalised, at temperature 1. */
  logprob: number
  /** The most probable tokens, most probable first, ties to the lower id. */
  top: TokenAlternative[]
}

/** Chooses the tokens of one sequence. */
export interface Sampler {
  /** Tells what stands at positions `position …`, prompt and sampled tokens alike; positions told before are skipped. */
  observe(tokens: Int32Array, position: number): void
  /**
   * Draws the token at `position`. The same logits, spec, position and tokens observed give the same token.
   *
   * @param logits `[vocab]` f32; overwritten with the penalised and masked ones
   * @param allowed what may be drawn; null is everything
   * @throws AppError `node_failed` when a logit is NaN or none is finite
   */
  sample(logits: Float32Array, position: number, allowed?: TokenMask | null): SampledToken
}

/** Buffers of the size of the vocabulary that samplers of one thread may share. */
export interface SamplerScratch {
  weights: Float64Array
  candidates: Float64Array
}

export function createSamplerScratch(vocabSize: number): SamplerScratch {
  return { weights: new Float64Array(vocabSize), candidates: new Float64Array(vocabSize) }
}

/**
 * A sampler with vLLM's semantics: biases, then repetition penalty over prompt and output (positive logits are
 * divided by it, others multiplied), then frequency and presence penalties over the output alone,
 * then the mask, temperature, min-p, top-k, top-p in this order. Ties at a cut go to the lower id.
 *
 * Work is linear in the vocabulary: cuts are found by selection, never by sorting it.
 */
export function createSampler(spec: SamplerSpec, scratch: SamplerScratch): Sampler {
  const penalised = spec.presencePenalty !== 0 || spec.frequencyPenalty !== 0
  const remembers = penalised || spec.repetitionPenalty !== 1
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

  return {
    observe(tokens, position) {
      if (!remembers) return
      for (const [offset, token] of tokens.entries()) {
        if (position + offset < seen) continue
        const isOutput = position + offset >= spec.promptTokens
        generated.set(token, (generated.get(token) ?? 0) + (isOutput ? 1 : 0))
      }
      seen = Math.max(seen, position + tokens.length)
    },

    sample(logits, position, allowed = null) {
      const wantsLogprobs = spec.topLogprobs >= 0
      const logSumExp = wantsLogprobs ? logSumExpOf(logits, checkedMaximum(logits).logit) : NaN
      const top = mostProbable(logits, Math.max(spec.topLogprobs, 0), logSumExp)
      const unpenalised =
        wantsLogprobs && (remembers || biases.length > 0 || allowed) ? logits.slice() : logits
      for (const { token, bias } of biases) logits[token] = (logits[token] as number) + bias
      if (remembers) penalise(logits)
      if (allowed) forbidOthers(logits, allowed)
      const best = checkedMaximum(logits)
      const token =
        spec.temperature === 0
          ? best.token
          : draw(logits, best.logit, spec, scratch, randomDraw(spec.seed, position - spec.promptTokens))
      return { token, logprob: (unpenalised[token] as number) - logSumExp, top }
    },
  }
}

/** Makes every token that is not allowed impossible. */
function forbidOthers(logits: Float32Array, allowed: TokenMask): void {
  for (let begin = 0; begin < logits.length; begin += 32) {
    const word = allowed[begin >>> 5] ?? 0
    if (word === 0) logits.fill(-Infinity, begin, begin + 32)
    else if (word !== 0xffffffff)
      for (let bit = 0; bit < 32; bit++) if (((word >>> bit) & 1) === 0) logits[begin + bit] = -Infinity
  }
}

/** The largest logit, and the lowest id that has it. */
function checkedMaximum(logits: Float32Array): { token: number; logit: number } {
  let token = 0
  let logit = -Infinity
  for (let i = 0; i < logits.length; i++) {
    const value = logits[i] as number
    if (value > logit) {
      logit = value
      token = i
    } else if (Number.isNaN(value)) {
      throw new AppError(
        'node_failed',
        `The model's logits are not numbers (token ${i}). Its weights are damaged.`,
      )
    }
  }
  if (!Number.isFinite(logit)) {
    throw new AppError('node_failed', `The model's largest logit is ${logit}, expected a finite one.`)
  }
  return { token, logit }
}

function logSumExpOf(logits: Float32Array, maximum: number): number {
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - maximum)
  return maximum + Math.log(sum)
}

/** The `count` largest logits as log-probabilities, by insertion into a short list. */
function mostProbable(logits: Float32Array, count: number, logSumExp: number): TokenAlternative[] {
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

/** Draws from softmax(logits / temperature) after the cuts; `u` in [0, 1) decides. */
function draw(
  logits: Float32Array,
  maximum: number,
  spec: SamplerSpec,
  scratch: SamplerScratch,
  u: number,
): number {
  const vocab = logits.length
  const weights = scratch.weights.subarray(0, vocab)
  const candidates = scratch.candidates.subarray(0, vocab)
  // Min-p and top-k are cuts in the order of the logits: what they drop needs no exponential.
  const floor = spec.minP > 0 ? maximum + spec.temperature * Math.log(spec.minP) : -Infinity
  let cut: Cut = { value: -Infinity, ties: vocab }
  if (spec.topK > 0 && spec.topK < vocab) {
    candidates.set(logits)
    cut = cutWhere(candidates, 'count', spec.topK)
  }
  let ties = cut.ties
  for (let i = 0; i < vocab; i++) {
    const logit = logits[i] as number
    const isKept = logit >= floor && (logit > cut.value || (logit === cut.value && ties-- > 0))
    // Relative to the most probable token's.
    weights[i] = isKept ? Math.exp((logit - maximum) / spec.temperature) : 0
  }
  if (spec.topP < 1) {
    const total = sumOf(weights)
    // Tokens lighter than this weigh less than (1 - topP) of the total even together.
    const negligible = ((1 - spec.topP) * total) / vocab
    let count = 0
    for (let i = 0; i < vocab; i++) {
      const weight = weights[i] as number
      if (weight > 0 && weight >= negligible) candidates[count++] = weight
    }
    keepUntil(weights, cutWhere(candidates.subarray(0, count), 'mass', spec.topP * total))
  }
  // In order of ids: a small change of the logits then moves the borders a little and no token far.
  let remaining = u * sumOf(weights)
  let last = 0
  for (let i = 0; i < vocab; i++) {
    const weight = weights[i] as number
    if (weight === 0) continue
    last = i
    if (remaining < weight) return i
    remaining -= weight
  }
  return last
}

/** Where a descending order is cut: at which value, and how many of exactly that value stay. */
interface Cut {
  value: number
  ties: number
}

/** Zeroes every weight after the cut; of equal weights the lower ids stay. */
function keepUntil(weights: Float64Array, cut: Cut): void {
  let ties = cut.ties
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number
    if (weight > cut.value) continue
    if (weight === cut.value && ties > 0) ties--
    else weights[i] = 0
  }
}

/**
 * Quickselect: where the heaviest values reach `target`, counted by one each or by their own mass.
 * The fewest that reach it stay. Reorders `values`.
 */
function cutWhere(values: Float64Array, by: 'count' | 'mass', target: number): Cut {
  let begin = 0
  let end = values.length
  let reached = 0
  while (begin < end) {
    const pivot = middleOfThree(values, begin, end)
    const [heavierEnd, equalEnd] = partition(values, begin, end, pivot)
    const heavier = by === 'count' ? heavierEnd - begin : sumOf(values.subarray(begin, heavierEnd))
    if (heavierEnd > begin && reached + heavier >= target) {
      end = heavierEnd
      continue
    }
    const each = by === 'count' ? 1 : pivot
    const equal = equalEnd - heavierEnd
    const needed = Math.max(1, Math.ceil((target - reached - heavier) / each))
    // At the very end rounding may leave the target out of reach: then everything stays.
    if (needed <= equal || equalEnd === end) return { value: pivot, ties: Math.min(needed, equal) }
    reached += heavier + equal * each
    begin = equalEnd
  }
  return { value: 0, ties: 0 }
}

function middleOfThree(values: Float64Array, begin: number, end: number): number {
  const a = values[begin] as number
  const b = values[(begin + end) >>> 1] as number
  const c = values[end - 1] as number
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}

/** Puts values above `pivot` first, then those equal to it; returns where each group ends. */
function partition(
  values: Float64Array,
  begin: number,
  end: number,
  pivot: number,
): [heavier: number, equal: number] {
  let heavier = begin
  let rest = begin
  let lighter = end
  while (rest < lighter) {
    const value = values[rest] as number
    if (value > pivot) {
      values[rest++] = values[heavier] as number
      values[heavier++] = value
    } else if (value < pivot) {
      values[rest] = values[--lighter] as number
      values[lighter] = value
    } else {
      rest++
    }
  }
  return [heavier, lighter]
}

function sumOf(values: Float64Array): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i] as number
  return sum
}
