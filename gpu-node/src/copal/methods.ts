import type { PruneMethod } from '@copal/shared/wire/prune-method.ts'
import type { MaskScope, SparsityPattern } from '@copal/shared/mask/pattern.ts'
import type { StatisticName } from './block-statistics.ts'
import { copal, magnitude, wanda, type ScoredLinear } from './importance.ts'
import { selectKept } from './select.ts'

/** A pruning method: the accumulated statistics it reads, and how it chooses the kept weights of one linear. */
export interface Method {
  needs: readonly StatisticName[]
  /** @returns mask bits `[rows, ceil(cols/8)]` */
  select(linear: ScoredLinear, pattern: SparsityPattern, scope: MaskScope): Uint8Array
}

/** Every method by its name on the wire. */
export const METHODS: Readonly<Record<PruneMethod, Method>> = {
  magnitude: byScore([], magnitude),
  wanda: byScore(['square_norm'], wanda),
  'continual-wanda': byScore(['square_norm'], wanda),
  copal: byScore(['sensitivity'], copal),
}

function byScore(needs: readonly StatisticName[], score: (linear: ScoredLinear) => Float64Array): Method {
  return {
    needs,
    select: (linear, pattern, scope) => selectKept(score(linear), linear.rows, linear.cols, pattern, scope),
  }
}
