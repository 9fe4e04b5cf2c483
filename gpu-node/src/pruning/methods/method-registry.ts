import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { StatisticName } from '../statistics/statistic-names.ts'
import { copal } from './copal.ts'
import { magnitude } from './magnitude.ts'
import { continualNowag } from './nowag.ts'
import { continualRia } from './ria.ts'
import type { CountedDatasets, PruneRule } from './prune-rule.ts'
import { continualSparseGpt, sparseGpt } from './sparsegpt.ts'
import { continualWanda, wanda } from './wanda.ts'

/** Every rule there is; what a method can be follows from this list alone. */
export const RULES: readonly PruneRule[] = [
  magnitude,
  wanda,
  continualWanda,
  copal,
  sparseGpt,
  continualSparseGpt,
  continualRia,
  continualNowag,
]

/** A rule and what refines its choice. */
export interface Method {
  /** `continual-wanda+swaps+reconstruct` */
  name: string
  rule: PruneRule
  /** The ratio is shared out over the linears by what they cost the model: see `allocate.ts`. */
  allocated: boolean
  /** The rows of a linear share its ratio by what an error of each costs: see `share-rows.ts`. */
  rows: boolean
  /** Kept and pruned weights of a row are exchanged while that lowers the output error: see `swaps.ts`. */
  swaps: boolean
  /** The surviving weights are solved anew for the mask: see `reconstruct.ts`. */
  reconstruct: boolean
  needs: readonly StatisticName[]
  datasets: CountedDatasets
  /** A weights file comes of it, not only a mask. */
  changesWeights: boolean
}

/**
 * Of what may come after a rule: raised by one whenever its outcome changes, as `PruneRule.revision` is, which see.
 */
export const STEP_REVISIONS = { allocated: 0, rows: 0, swaps: 0, reconstruct: 0 }

const REFINEMENTS = [
  { suffix: '', swaps: false, reconstruct: false },
  { suffix: '+swaps', swaps: true, reconstruct: false },
  { suffix: '+reconstruct', swaps: false, reconstruct: true },
  { suffix: '+swaps+reconstruct', swaps: true, reconstruct: true },
] as const

const ALLOCATIONS = [
  { suffix: '', allocated: false, rows: false },
  { suffix: '+allocated', allocated: true, rows: false },
  { suffix: '+rows', allocated: false, rows: true },
  { suffix: '+allocated+rows', allocated: true, rows: true },
] as const

const METHODS: ReadonlyMap<string, Method> = new Map(
  RULES.flatMap((rule) => ALLOCATIONS.flatMap((share) => methodsOf(rule, share))).map((method) => [
    method.name,
    method,
  ]),
)

/** The name of every method. */
export const METHOD_NAMES: readonly string[] = [...METHODS.keys()]

/** What a method's masks depend on besides its name: each revision of the rule and its steps that is not 0, by name. */
export function revisionsOf(method: Method): Record<string, number> {
  const steps = Object.entries(STEP_REVISIONS).filter(([step]) => method[step as keyof typeof STEP_REVISIONS])
  const all = [['rule', method.rule.revision ?? 0] as const, ...steps]
  return Object.fromEntries(all.filter(([, revision]) => revision !== 0))
}

/** What may come after a rule, in this order. */
const SUFFIXES = ['+allocated', '+rows', '+swaps', '+reconstruct'] as const

/**
 * The method of a name: `<rule>`, then any of {@link SUFFIXES} in that order; rules that change weights neither share among
 * rows nor swap.
 *
 * @throws AppError `invalid_request`, param `method`
 */
export function parseMethod(name: string): Method {
  const method = METHODS.get(name)
  if (method) return method
  const nearest = suggestName(name, METHOD_NAMES)
  throw new AppError(
    'invalid_request',
    `There is no pruning method '${name}'.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} ` +
      `The rules are ${RULES.map((rule) => rule.name).join(', ')}; after one may come ${SUFFIXES.join(', ')}, in this order ` +
      `(after those of SparseGPT, which change weights, neither +rows nor +swaps).`,
    { param: 'method' },
  )
}

function methodsOf(rule: PruneRule, share: (typeof ALLOCATIONS)[number]): Method[] {
  // A rule that updates weights counts by itself how many a row keeps.
  if (share.rows && rule.changesWeights) return []
  // Swaps weigh a mask by its error with dense weights; of a rule that updates weights that is another mask's.
  const refinements = REFINEMENTS.filter(({ swaps }) => !(swaps && rule.changesWeights))
  return refinements.map(({ suffix, swaps, reconstruct }) => {
    const refined = swaps || reconstruct
    const needs = new Set(rule.needs)
    if (share.rows) needs.add('square_norm')
    if (refined) needs.add('second_moment')
    return {
      name: rule.name + share.suffix + suffix,
      rule,
      allocated: share.allocated,
      rows: share.rows,
      swaps,
      reconstruct,
      needs: [...needs],
      datasets: needs.size > 0 && rule.datasets === 'none' ? 'accumulated' : rule.datasets,
      changesWeights: rule.changesWeights || reconstruct,
    }
  })
}
