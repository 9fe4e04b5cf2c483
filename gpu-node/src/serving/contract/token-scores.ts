import { AppError } from '@copal/shared/errors.ts'
import type { PromptScoring, TokenAlternative, TokenScores } from './backend.ts'

/** Creates scores of `tokens` tokens, to be filled in. */
export function createTokenScores(tokens: number, alternatives: number): TokenScores {
  return {
    logprobs: new Float32Array(tokens),
    topTokens: new Int32Array(tokens * alternatives),
    topLogprobs: new Float32Array(tokens * alternatives),
  }
}

/** Copies `part` into `scores`; its first row becomes row `at`. */
export function storeTokenScores(scores: TokenScores, at: number, part: TokenScores): void {
  const alternatives = alternativesOf(scores)
  scores.logprobs.set(part.logprobs, at)
  scores.topTokens.set(part.topTokens, at * alternatives)
  scores.topLogprobs.set(part.topLogprobs, at * alternatives)
}

/** Returns the number of most probable tokens in each row. */
export function alternativesOf({ logprobs, topTokens }: TokenScores): number {
  return logprobs.length === 0 ? 0 : topTokens.length / logprobs.length
}

/** Returns the most probable tokens in place of the token of a row. */
export function topOf(scores: TokenScores, row: number): TokenAlternative[] {
  const alternatives = alternativesOf(scores)
  const { topTokens, topLogprobs } = scores
  return Array.from(topTokens.subarray(row * alternatives, (row + 1) * alternatives), (token, index) => ({
    token,
    logprob: topLogprobs[row * alternatives + index] as number,
  }))
}

/** Returns the number of tokens that are to be scored. */
export function scoredTargets({ targets }: Pick<PromptScoring, 'targets'>): number {
  return targets.reduce((count, target) => count + (target === -1 ? 0 : 1), 0)
}

/** @throws AppError `invalid_output` for a score that is not finite, which no client could read */
export function requireFiniteScores({ logprobs, topLogprobs }: TokenScores): void {
  if (logprobs.every(Number.isFinite) && topLogprobs.every(Number.isFinite)) return
  throw new AppError(
    'invalid_output',
    "The model's log-probabilities are not finite numbers. Its weights are damaged.",
  )
}
