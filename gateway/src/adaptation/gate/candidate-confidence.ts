/** Part of the error that is shared alike by the first {@link EVEN_CANDIDATES}: ever smaller parts would let no later mask pass. */
const EVEN_SHARE = 0.03
const EVEN_CANDIDATES = 23
/** Part of the rest that each candidate leaves to those after it. */
const LEFT = 1 / 3

/**
 * Returns the confidence of the bounds of one candidate, so that the confidence of the policy holds over all candidates that
 * are tested beside one active mask, on the same held-out text.
 *
 * Most of the error is spent in a geometric sequence: each candidate gets two thirds of what those before it left of 97 % of it.
 * The first has most, because most updates have no other, and the next ones enough to pass if it was truly worse
 * (docs/measurements/gate.md). The other 3 % go to the first 23 candidates alike. By the union bound the sum is at most the whole
 * error, up to the 23rd; every further one adds 0.13 % of it.
 *
 * @param confidence of the policy
 * @param candidate its number, from 1, among all that were compared with the active mask
 */
export function candidateConfidence(confidence: number, candidate: number): number {
  const part = (1 - EVEN_SHARE) * (1 - LEFT) * LEFT ** (candidate - 1) + EVEN_SHARE / EVEN_CANDIDATES
  return 1 - (1 - confidence) * part
}

/** Names a confidence in messages, with two digits of what is missing to certainty: `97.5 %`, `99.83 %`. */
export function confidenceName(confidence: number): string {
  const digits = Math.max(1, 1 - Math.floor(Math.log10(100 * (1 - confidence))))
  return `${Number((confidence * 100).toFixed(digits))} %`
}
