import type { Candidates } from '../../../gpu-node/src/serving/sampling/candidates.ts'
import type { AdjustedTokens } from '../../../gpu-node/src/serving/sampling/logit-adjuster.ts'
import { normals } from '../harness/random.ts'

/** How many tokens {@link candidatesOf} lists, or all of a smaller vocabulary. */
export const CANDIDATES = 64

/**
 * Computes what a GPU returns for some logits.
 *
 * @param error the relative error of its sums
 */
export function candidatesOf(
  all: Float32Array,
  temperature: number,
  chance = 0,
  error = 0,
  adjusted?: AdjustedTokens,
): Candidates {
  const logits = all.slice()
  for (const token of adjusted?.tokens ?? []) logits[token] = -1e30
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)
  const best = logits[order[0]!]!
  const sumAt = (t: number) =>
    logits.reduce((sum, logit) => sum + Math.exp((logit - best) / t), 0) * (1 + error)
  const [size, total] = [Math.ceil(logits.length / 256), sumAt(temperature)]
  const weightOf = (tokens: Float32Array) =>
    tokens.reduce((sum, logit) => sum + Math.exp((logit - best) / temperature), 0)
  /** The weight of the adjusted tokens before a token. */
  const adjustedBefore = (end: number) => {
    let sum = 0
    for (const [index, token] of adjusted?.tokens.entries() ?? []) {
      const biased = all[token]! + adjusted!.biases[index]!
      const factor = adjusted!.factors[index]!
      const logit = (biased > 0 ? biased / factor : biased * factor) - adjusted!.deductions[index]!
      if (token < end) sum += Math.exp(Math.min((logit - best) / temperature, 80))
    }
    return sum
  }
  const target = chance * (total + adjustedBefore(logits.length))
  let start = 0
  let before = 0
  while (start + size < logits.length) {
    const next = before + weightOf(logits.subarray(start, start + size))
    if (target < next + adjustedBefore(start + size)) break
    before = next
    start += size
  }
  const part = new Float32Array(size).fill(-Infinity)
  part.set(logits.subarray(start, start + size))
  return {
    part: { start, before: before - error * total, logits: part },
    pairs: Float32Array.from(order.slice(0, CANDIDATES).flatMap((token) => [token, logits[token]!])),
    vocabSize: logits.length,
    sum: sumAt(1),
    sumAtTemperature: total,
    ...(adjusted && adjusted.tokens.length > 0
      ? {
          withheld: {
            tokens: adjusted.tokens,
            logits: Float32Array.from(adjusted.tokens, (token) => all[token]!),
          },
        }
      : {}),
  }
}

/** Logits that are flat, peaked, and rounded so that many are equal. */
export const SHAPES: [string, (random: () => number, vocab: number) => Float32Array][] = [
  ['flat', (random, vocab) => normals(random, vocab, 0, 0.01)],
  ['usual', (random, vocab) => normals(random, vocab, 0, 3)],
  ['peaked', (random, vocab) => normals(random, vocab, 0, 12)],
  ['tied', (random, vocab) => normals(random, vocab, 0, 2).map((logit) => Math.round(logit))],
  ['equal', (_, vocab) => new Float32Array(vocab).fill(-1.5)],
]
