import { AppError } from '@copal/shared/errors.ts'

/** Length of the prompt that a new weight set is tried with: streams of the set that serves wait for it. */
const PROMPT_TOKENS = 4

/** The prompt that a new weight set is tried with: at once, and in parts through the cache. */
export function selfTestPrompt(vocabSize: number): Int32Array {
  return Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => (i * 7919 + 1) % vocabSize)
}

/**
 * Logits after the canary prompt must be finite, and the same with and without the cache.
 *
 * @param tolerance by how much they may differ, relative to the largest
 * @throws AppError `node_failed`
 */
export function checkSelfTest(whole: Float32Array, cached: Float32Array, tolerance: number): void {
  let largest = 0
  let difference = 0
  // By index: an iterator takes milliseconds for a vocabulary, and streams wait for them.
  for (let i = 0; i < whole.length; i++) {
    const logit = whole[i] as number
    if (!Number.isFinite(logit))
      throw new AppError('node_failed', `The new weights give a logit of ${logit}.`)
    largest = Math.max(largest, Math.abs(logit))
    difference = Math.max(difference, Math.abs(logit - (cached[i] as number)))
  }
  // Not `>`: a NaN must not pass.
  if (!(difference <= tolerance * Math.max(1, largest))) {
    throw new AppError(
      'node_failed',
      `Logits with and without the key/value cache differ by ${difference}. This backend computes wrong here.`,
    )
  }
}
