import { AppError } from '@copal/shared/errors.ts'

/**
 * Length of the self-test prompt. It is short, because streams on the serving set wait for the self-test. Its whole, all but the
 * last token, and the last one alone are multiplied by three different kernels of wgpu.
 */
const PROMPT_TOKENS = 5

/** Returns the prompt of the self-test, which a new weight set runs at once and in parts through the cache. */
export function selfTestPrompt(vocabSize: number): Int32Array {
  return Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => (i * 7919 + 1) % vocabSize)
}

/**
 * Checks that the logits after the self-test prompt are finite, and the same with and without the cache.
 *
 * @param tolerance largest allowed difference, relative to the largest logit
 * @returns the largest difference
 * @throws AppError `node_failed`
 */
export function checkSelfTest(whole: Float32Array, cached: Float32Array, tolerance: number): number {
  let largest = 0
  let difference = 0
  // By index: an iterator takes milliseconds for a vocabulary, and streams wait for them.
  for (let i = 0; i < whole.length; i++) {
    const logit = whole[i] as number
    if (!Number.isFinite(logit))
      throw new AppError(
        'node_failed',
        `The self-test of the new weights gave a logit of ${logit}, expected a finite number.`,
      )
    largest = Math.max(largest, Math.abs(logit))
    difference = Math.max(difference, Math.abs(logit - (cached[i] as number)))
  }
  // Not `>`: a NaN must not pass.
  if (!(difference <= tolerance * Math.max(1, largest))) {
    throw new AppError(
      'node_failed',
      `The self-test of the new weights failed: logits with and without the key/value cache differ by ${difference}. ` +
        'This backend computes wrong results on this machine.',
    )
  }
  return difference
}
