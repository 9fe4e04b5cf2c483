import type { MaskScope, SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import type { StatisticName } from '../statistics/statistic-names.ts'

/** One linear as a rule sees it. */
export interface LinearProblem {
  /** Of its weight tensor: `model.layers.3.mlp.up_proj.weight`. */
  name: string
  rows: number
  cols: number
  /** Dense, `[rows, cols]` row-major. */
  weights: Float32Array
  /** Over which the statistics are sums. */
  tokens: number
  /**
   * An accumulated statistic, shapes as in `block-statistics.ts`; `second_moment` is the upper triangle, row by
   * row. Read it, do not write it: linears and refinements share it.
   *
   * @throws Error the rule did not declare it in `needs`
   */
  statistic: (name: StatisticName) => Float64Array
  /** How many weights each row keeps, where rows share the ratio (`+rows`); otherwise pattern and scope say it. */
  keptPerRow?: Uint32Array | undefined
}

/** What a rule decides about one linear. */
export interface LinearChoice {
  /** Mask bits `[rows, ceil(cols/8)]`, see `mask/bits.ts`. */
  bits: Uint8Array
  /** Updated weights `[rows, cols]`, 0 where pruned; null: the dense ones survive as they are. */
  weights: Float32Array | null
}

/** Whose statistics count: nobody's, those of the newest datasets alone, or those of all datasets so far. */
export type CountedDatasets = 'none' | 'newest' | 'accumulated'

/**
 * A pruning rule: how the kept weights of one linear are chosen, from what.
 *
 * To add one, write its file, its test, and one line in `registry.ts`; the command line, the wire and the reports
 * take it from there.
 */
export interface PruneRule {
  /** Lower case with hyphens. */
  name: string
  /** One line for people, with the source. */
  summary: string
  datasets: CountedDatasets
  needs: readonly StatisticName[]
  /**
   * Raised by one whenever {@link choose} comes to choose otherwise from the same problem, be it in one weight: masks that
   * a laboratory's cache holds are found by it. 0 unless given.
   */
  revision?: number
  /** Whether {@link choose} may return updated weights. */
  changesWeights: boolean
  /**
   * Keeps exactly as many weights as `keptCounts` says, or each row as many as the problem says: that is never said to a
   * rule that changes weights. Pure: the same problem gives the same bytes.
   *
   * @throws RangeError what it computes is not finite, or the pattern does not fit
   */
  choose(problem: LinearProblem, pattern: SparsityPattern, scope: MaskScope): LinearChoice
}
