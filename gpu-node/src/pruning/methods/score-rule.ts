import { freeMemory } from '../../platform/free-memory.ts'
import { selectKept, selectKeptPerRow } from './select-kept.ts'
import type { LinearProblem, PruneRule } from './prune-rule.ts'

/** A rule that scores every weight and prunes the lowest scores of each row, matrix or group of n:m. */
export interface ScoreRuleOptions extends Pick<
  PruneRule,
  'name' | 'summary' | 'datasets' | 'needs' | 'revision'
> {
  /** Returns finite scores `[rows, cols]` f64 row-major, in a new array, which the caller frees. */
  score: (problem: LinearProblem) => Float64Array<ArrayBuffer>
}

/** Creates the rule that keeps the weights with the highest scores and does not change their values. */
export function scoreRule({ score, ...about }: ScoreRuleOptions): PruneRule {
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
