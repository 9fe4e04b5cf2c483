/** The names of pruning methods: a score rule, and `+swaps` where the mask that it selects is refined. */
import { z } from 'zod'

/** How weights are scored. What each reads is said in {@link datasetsThatCount}, how it works in the node. */
export const scoreRule = z.enum(['magnitude', 'wanda', 'continual-wanda', 'copal'])
export type ScoreRule = z.output<typeof scoreRule>

/** How a mask is chosen from statistics. */
export const pruneMethod = z.enum(scoreRule.options)
export type PruneMethod = z.output<typeof pruneMethod>

/**
 * Whose statistics a method reads: nobody's, those of the newest datasets alone (it restarts, as the baselines
 * of the paper do), or those of all datasets so far.
 */
export function datasetsThatCount(method: PruneMethod): 'none' | 'newest' | 'accumulated' {
  if (method === 'magnitude') return 'none'
  return method === 'wanda' ? 'newest' : 'accumulated'
}
