import type { TokenScores } from '../../contract/backend.ts'
import { createTokenScores, requireFiniteScores } from '../../contract/token-scores.ts'

/**
 * Reads scores from results of the addon: for each token its negative log-likelihood, then its alternatives, each a token
 * and a negative log-likelihood.
 *
 * @throws AppError `invalid_output` for a score that is not finite
 */
export function readTokenScores(results: Float32Array, alternatives: number): TokenScores {
  const width = 1 + 2 * alternatives
  const scores = createTokenScores(results.length / width, alternatives)
  for (let row = 0; row < scores.logprobs.length; row++) {
    scores.logprobs[row] = -(results[row * width] as number)
    for (let rank = 0; rank < alternatives; rank++) {
      const at = row * width + 1 + 2 * rank
      scores.topTokens[row * alternatives + rank] = results[at] as number
      scores.topLogprobs[row * alternatives + rank] = -(results[at + 1] as number)
    }
  }
  requireFiniteScores(scores)
  return scores
}
