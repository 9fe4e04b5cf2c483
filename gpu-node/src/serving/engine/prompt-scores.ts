/** Scores of a prompt's tokens, for clients that ask for the prompt with its log-probabilities. */
import type { PromptScoring, SequenceOutput, SequenceWork } from '../contract/backend.ts'
import { alternativesOf, scoredTargets, storeTokenScores } from '../contract/token-scores.ts'
import type { Request } from './engine-request.ts'

/** Returns what to score of the prompt's tokens `from … to - 1`; undefined for nothing. */
export function promptScoringOf(
  { goal, tokens, promptTokens }: Request,
  from: number,
  to: number,
): PromptScoring | undefined {
  // A preempted request that has output prefills a prompt that was scored before.
  if (goal.kind !== 'generate' || !goal.promptScores || tokens.length > promptTokens) return undefined
  const targets = Int32Array.from({ length: to - from }, (_, index) => tokens[from + index + 1] ?? -1)
  return scoredTargets({ targets }) === 0
    ? undefined
    : { targets, alternatives: alternativesOf(goal.promptScores) }
}

/** Returns whether the output of a work has the scores that the work asks for. */
export function hasPromptScores({ promptScores: wanted }: SequenceWork, output: SequenceOutput): boolean {
  if (!wanted) return true
  return 'promptScores' in output && output.promptScores?.logprobs.length === scoredTargets(wanted)
}

/** Stores the scores in the output of a work that began at token `from`. */
export function storePromptScores({ goal }: Request, from: number, output: SequenceOutput): void {
  if (goal.kind !== 'generate' || !goal.promptScores) return
  if ('promptScores' in output && output.promptScores)
    storeTokenScores(goal.promptScores, from, output.promptScores)
}
