import type { MaskScope, SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import type { StatisticName } from '../statistics/statistic-names.ts'

/** One linear to prune: the input of a rule. */
export interface LinearProblem {
  /** Name of its weight tensor, such as `model.layers.3.mlp.up_proj.weight`. */
  name: string
  rows: number
  cols: number
  /** Dense, `[rows, cols]` row-major. */
  weights: Float32Array
  /** Number of calibration tokens in the sums. */
  tokens: number
  /**
   * Returns an accumulated statistic; for shapes see `statistic-names.ts`. Do not change it: refinements read it too.
   *
   * @throws Error when the rule did not declare it in `needs`
   */
  statistic: (name: StatisticName) => Float64Array
  /** Number of weights that each row keeps, `[rows]`, if rows share the ratio (`+rows`). If left out, pattern and scope decide. */
  keptPerRow?: Uint32Array | undefined
}

/** The choice of a rule for one linear. */
export interface LinearChoice {
  /** Mask bits `[rows, ceil(cols/8)]`, see `bit-rows.ts`. */
  bits: Uint8Array
  /** Updated weights `[rows, cols]`, 0 where pruned; null if the kept weights have their dense values. */
  weights: Float32Array | null
}

/** The datasets whose statistics a method reads: none, the newest ones only, or all so far. */
export type CountedDatasets = 'none' | 'newest' | 'accumulated'

/**
 * A pruning rule: chooses the weights to keep of one linear.
 *
 * To add a rule, write its file and its test, and add it to `RULES` in `method-registry.ts`. The command line, the wire and
 * the tables of reports then offer it. Two kinds of lists are written by hand: the default methods (`lab-run.ts`,
 * `masks-build.ts` and the gateway's `update-requests.ts`), and the rules whose published scope a report mentions
 * (`lab/results/labels.ts`).
 */
export interface PruneRule {
  /** In lower case with hyphens. */
  name: string
  /** A one-line description with the source. */
  summary: string
  datasets: CountedDatasets
  needs: readonly StatisticName[]
  /**
   * Increment it when a code change alters the choice for any problem, even by one weight. A laboratory finds cached masks by
   * it. Default 0.
   */
  revision?: number
  /** Whether {@link choose} may return updated weights. */
  changesWeights: boolean
  /**
   * Chooses the weights to keep: as many as `keptCounts` returns, or per row as many as `problem.keptPerRow` says. Rules that
   * change weights never get `keptPerRow`. Pure: the same problem gives the same bytes.
   *
   * @throws RangeError when a computed value is not finite, or the pattern does not fit
   */
  choose(problem: LinearProblem, pattern: SparsityPattern, scope: MaskScope): LinearChoice
}
