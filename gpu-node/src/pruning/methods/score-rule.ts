import { freeMemory } from '../../platform/free-memory.ts'
import { selectKept, selectKeptPerRow } from './select-kept.ts'
import type { LinearProblem, PruneRule } from './prune-rule.ts'

/** Most rules: every weight has a score, and the lowest of each row, matrix or group of n:m go. */
export interface ScoreRule extends Pick<PruneRule, 'name' | 'summary' | 'datasets' | 'needs'> {
  /** @returns `[rows, cols]` row-major, f64, finite; an array of its own, which is freed */
  score: (problem: LinearProblem) => Float64Array<ArrayBuffer>
}

/** The rule that keeps the highest scores and leaves their weights as they are. */
export function scoreRule({ score, ...about }: ScoreRule): PruneRule {
  return {
    ...about,
    changesWeights: false,
    choose: (problem, pattern, scope) => {
      const { rows, cols, keptPerRow } = problem
      const scores = score(problem)
      const bits = keptPerRow
        ? selectKeptPerRow(scores, rows, cols, keptPerRow)
        : selectKept(scores, rows, cols, pattern, scope)
      freeMemory(scores)
      return { bits, weights: null }
    },
  }
}
