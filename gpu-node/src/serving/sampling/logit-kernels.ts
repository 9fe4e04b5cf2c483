import { AppError } from '@copal/shared/errors.ts'
import type { SamplerSpec } from '../contract/backend.ts'

/** The settings of a spec that decide how a token is drawn from logits. */
export type SamplingCuts = Pick<SamplerSpec, 'temperature' | 'topK' | 'topP' | 'minP'>

/** The loops over the logits of a vocabulary. */
export interface LogitKernels {
  /**
   * Draws from softmax(logits / temperature) after the cuts, in the order that `createSampler` states; the most probable
   * token at temperature 0. Among equal logits the lower ids are kept.
   *
   * @param logits `[vocab]` f32
   * @param chance random number in [0, 1) that decides
   * @throws AppError `invalid_output` when a logit is NaN or none is finite
   */
  draw(logits: Float32Array, cuts: SamplingCuts, chance: number): number
  /** Returns the natural logarithm of the sum of the exponentials. @throws AppError as `draw` does */
  logSumExp(logits: Float32Array): number
}

/** Buffers with one value per token. */
interface Scratch {
  weights: Float64Array
  candidates: Float64Array
}

/** Creates the kernels in JavaScript: the reference, used without the addon. Calls share buffers and must not overlap. */
export function createScriptLogitKernels(vocabSize: number): LogitKernels {
  const scratch = { weights: new Float64Array(vocabSize), candidates: new Float64Array(vocabSize) }
  return {
    draw(logits, cuts, chance) {
      const best = checkedMaximum(logits)
      return cuts.temperature === 0 ? best.token : draw(logits, best.logit, cuts, scratch, chance)
    },
    logSumExp: (logits) => logSumExpOf(logits, checkedMaximum(logits).logit),
  }
}

/** Returns the negative log-likelihood of a token in nats, which is not finite where the logits are not. */
export function negativeLogLikelihood(logits: Float32Array, token: number): number {
  let maximum = -Infinity
  for (let i = 0; i < logits.length; i++) maximum = Math.max(maximum, logits[i] as number)
  return logSumExpOf(logits, maximum) - (logits[token] as number)
}

/** Returns the largest logit, and the lowest id that has it. */
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
        'invalid_output',
        `The model's logits are not numbers (token ${i}). Its weights are damaged.`,
      )
    }
  }
  if (!Number.isFinite(logit)) {
    throw new AppError('invalid_output', `The model's largest logit is ${logit}, expected a finite one.`)
  }
  return { token, logit }
}

function logSumExpOf(logits: Float32Array, maximum: number): number {
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - maximum)
  return maximum + Math.log(sum)
}

/** Draws from softmax(logits / temperature) after the cuts; `chance` in [0, 1) decides. */
function draw(
  logits: Float32Array,
  maximum: number,
  cuts: SamplingCuts,
  { weights, candidates }: Scratch,
  chance: number,
): number {
  const vocab = logits.length
  // Min-p and top-k cut by the order of the logits, so dropped tokens need no exponential.
  const floor = cuts.minP > 0 ? maximum + cuts.temperature * Math.log(cuts.minP) : -Infinity
  let cut: Cut = { value: -Infinity, ties: vocab }
  if (cuts.topK > 0 && cuts.topK < vocab) {
    candidates.set(logits)
    cut = findCut(candidates, 'count', cuts.topK)
  }
  let ties = cut.ties
  for (let i = 0; i < vocab; i++) {
    const logit = logits[i] as number
    const isKept = logit >= floor && (logit > cut.value || (logit === cut.value && ties-- > 0))
    // Relative to the weight of the most probable token.
    weights[i] = isKept ? Math.exp((logit - maximum) / cuts.temperature) : 0
  }
  if (cuts.topP < 1) {
    const total = sumOf(weights)
    // All tokens below this weight together weigh less than (1 - topP) of the total.
    const negligible = ((1 - cuts.topP) * total) / vocab
    let count = 0
    for (let i = 0; i < vocab; i++) {
      const weight = weights[i] as number
      if (weight > 0 && weight >= negligible) candidates[count++] = weight
    }
    applyCut(weights, findCut(candidates.subarray(0, count), 'mass', cuts.topP * total))
  }
  // In order of ids, so that a small change of the logits moves the boundaries only slightly.
  let remaining = chance * sumOf(weights)
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

/** A cut of a descending order: the value at the cut, and how many of exactly that value are kept. */
interface Cut {
  value: number
  ties: number
}

/** Zeroes every weight after the cut; among equal weights the lower ids are kept. */
function applyCut(weights: Float64Array, cut: Cut): void {
  let ties = cut.ties
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number
    if (weight > cut.value) continue
    if (weight === cut.value && ties > 0) ties--
    else weights[i] = 0
  }
}

/**
 * Finds, by quickselect, the cut at which the largest values reach `target`, counted one each or by their mass. The fewest
 * values that reach it are kept. Reorders `values`.
 */
function findCut(values: Float64Array, by: 'count' | 'mass', target: number): Cut {
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
    // Rounding may leave the target out of reach at the very end; then everything is kept.
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

/** Moves values above `pivot` to the front, then those equal to it; returns the end of each group. */
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
