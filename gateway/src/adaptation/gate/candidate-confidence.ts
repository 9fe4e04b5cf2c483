/** Candidates from which on each gets the same part of the error: ever smaller ones would let no later mask pass. */
const LAST_SMALLER = 12
/** Part of the error of the first candidate. */
const FIRST_PART = 4 / 5

/**
 * Returns the confidence of the bounds of one candidate, so that the confidence of the policy holds over all candidates that
 * are tested beside one active mask, on the same held-out text.
 *
 * The first candidate gets four fifths of the error, because most updates have no other, and the k-th one 1/(5k(k−1)) of it. By
 * the union bound their sum is at most the whole error, up to the 12th. From then on each gets the part of the 12th, so that
 * every further one adds 1/660 of the error.
 *
 * @param confidence of the policy
 * @param candidate its number, from 1, among all that were compared with the active mask
 */
export function candidateConfidence(confidence: number, candidate: number): number {
  const place = Math.min(candidate, LAST_SMALLER)
  const part = place <= 1 ? FIRST_PART : (1 - FIRST_PART) / (place * (place - 1))
  return 1 - (1 - confidence) * part
}

/** Names a confidence in messages, with two digits of what is missing to certainty: `97.5 %`, `99.83 %`. */
export function confidenceName(confidence: number): string {
  const digits = Math.max(1, 1 - Math.floor(Math.log10(100 * (1 - confidence))))
  return `${Number((confidence * 100).toFixed(digits))} %`
}
