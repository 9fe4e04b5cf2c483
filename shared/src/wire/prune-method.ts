/** The names of pruning methods: a score rule, and `+swaps` where the mask that it selects is refined. */
import { z } from 'zod'

const RULES = ['magnitude', 'wanda', 'continual-wanda', 'copal'] as const
/** How weights are scored. */
export type ScoreRule = (typeof RULES)[number]

const SWAPS = '+swaps'

/** How a mask is chosen from statistics: the highest scores are kept, then kept and pruned weights exchanged. */
export const pruneMethod = z.enum([...RULES, ...RULES.map((rule) => `${rule}${SWAPS}` as const)])
export type PruneMethod = z.output<typeof pruneMethod>

/** The parts of a method's name. */
export function methodParts(method: PruneMethod): { rule: ScoreRule; swaps: boolean } {
  const rule = RULES.find((name) => method === name || method === `${name}${SWAPS}`)
  if (!rule) throw new RangeError(`${method} begins with no score rule`)
  return { rule, swaps: method !== rule }
}

/**
 * Whose statistics a method reads: nobody's, those of the newest datasets alone (it restarts, as the baselines
 * of the paper do), or those of all datasets so far.
 */
export function datasetsThatCount(method: PruneMethod): 'none' | 'newest' | 'accumulated' {
  const { rule, swaps } = methodParts(method)
  if (rule === 'magnitude' && !swaps) return 'none'
  return rule === 'wanda' ? 'newest' : 'accumulated'
}
