import { selectKept } from '../select.ts'
import type { LinearProblem, PruneRule } from './rule.ts'

/** Most rules: every weight has a score, and the lowest of each row, matrix or group of n:m go. */
export interface ScoreRule extends Pick<PruneRule, 'name' | 'summary' | 'datasets' | 'needs'> {
  /** @returns `[rows, cols]` row-major, f64, finite */
  score: (problem: LinearProblem) => Float64Array
}

/** The rule that keeps the highest scores and leaves their weights as they are. */
export function scoreRule({ score, ...about }: ScoreRule): PruneRule {
  return {
    ...about,
    changesWeights: false,
    choose: (problem, pattern, scope) => ({
      bits: selectKept(score(problem), problem.rows, problem.cols, pattern, scope),
      weights: null,
    }),
  }
}
