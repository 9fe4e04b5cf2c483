import type { MaskScope, SparsityPattern } from '@copal/shared/mask/pattern.ts'
import { methodParts, type PruneMethod, type ScoreRule } from '@copal/shared/wire/prune-method.ts'
import type { StatisticName } from './block-statistics.ts'
import { copal, magnitude, wanda, type ScoredLinear } from './importance.ts'
import { selectKept } from './select.ts'

/**
 * A pruning method: the statistics it reads, how it chooses the kept weights of one linear, and whether swaps
 * (`swaps.ts`) refine that choice.
 */
export interface Method {
  needs: readonly StatisticName[]
  /** @returns mask bits `[rows, ceil(cols/8)]` */
  select(linear: ScoredLinear, pattern: SparsityPattern, scope: MaskScope): Uint8Array
  swaps: boolean
}

/** How a rule scores, and from what. Over which datasets that adds up is in the name: `datasetsThatCount`. */
interface Score {
  needs: readonly StatisticName[]
  score: (linear: ScoredLinear) => Float64Array
}

const SCORES: Readonly<Record<ScoreRule, Score>> = {
  magnitude: { needs: [], score: magnitude },
  wanda: { needs: ['square_norm'], score: wanda },
  'continual-wanda': { needs: ['square_norm'], score: wanda },
  copal: { needs: ['sensitivity'], score: copal },
}

/** The method of this name. */
export function methodOf(name: PruneMethod): Method {
  const { rule, swaps } = methodParts(name)
  const { needs, score } = SCORES[rule]
  return {
    needs: swaps ? [...needs, 'second_moment'] : needs,
    select: (linear, pattern, scope) => selectKept(score(linear), linear.rows, linear.cols, pattern, scope),
    swaps,
  }
}
