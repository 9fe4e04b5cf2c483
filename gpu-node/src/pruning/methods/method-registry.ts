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

/** All rules. The list of methods is derived from them. */
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

/** A pruning method: a rule, how ratios are allocated, and refinements of the rule's choice. */
export interface Method {
  /** For example `continual-wanda+swaps+reconstruct`. */
  name: string
  rule: PruneRule
  /** Whether linears get ratios according to their sensitivity (`+allocated`): see `allocate-ratios.ts`. */
  allocated: boolean
  /** Whether rows of a linear share its ratio according to their sensitivity (`+rows`): see `share-rows.ts`. */
  rows: boolean
  /** Whether kept and pruned weights are exchanged (`+swaps`): see `exchange.ts`. */
  swaps: boolean
  /** Whether new values of the surviving weights are solved for (`+reconstruct`): see `reconstruct.ts`. */
  reconstruct: boolean
  /** Whether the new values are rounded to codes of packed int4 (`+int4`): see `round-to-int4.ts`. */
  int4: boolean
  /** Statistics that the rule and the refinements read. */
  needs: readonly StatisticName[]
  datasets: CountedDatasets
  /** Whether the method produces a weights file instead of a mask file. */
  changesWeights: boolean
}

/** The revision of each step that may follow a rule: incremented when its result changes, like `PruneRule.revision`. */
export const STEP_REVISIONS = { allocated: 0, rows: 0, swaps: 0, reconstruct: 0, int4: 0 }

type Step = keyof typeof STEP_REVISIONS

const ALLOCATION_STEPS = ['allocated', 'rows'] as const satisfies readonly Step[]
const REFINEMENT_STEPS = ['swaps', 'reconstruct', 'int4'] as const satisfies readonly Step[]

/** The suffixes that may follow the name of a rule, in this order. */
const SUFFIXES = [...ALLOCATION_STEPS, ...REFINEMENT_STEPS].map(suffixOf)

/**
 * The steps that cannot follow a rule that changes weights. Such a rule decides itself how many weights a row keeps, and
 * exchange measures the error of a mask with dense weights, which is not the error after a rule has updated them.
 */
const STEPS_FOR_DENSE_WEIGHTS: readonly Step[] = ['rows', 'swaps']

const METHODS: ReadonlyMap<string, Method> = new Map(
  RULES.flatMap((rule) => methodsOf(rule)).map((method) => [method.name, method]),
)

/** The names of all methods. */
export const METHOD_NAMES: readonly string[] = [...METHODS.keys()]

/** Returns the revisions of a method's rule and steps that are not 0, by name. A cache of masks depends on them. */
export function revisionsOf(method: Method): Record<string, number> {
  const steps = Object.entries(STEP_REVISIONS).filter(([step]) => method[step as keyof typeof STEP_REVISIONS])
  const all = [['rule', method.rule.revision ?? 0] as const, ...steps]
  return Object.fromEntries(all.filter(([, revision]) => revision !== 0))
}

/**
 * Parses the name of a method: a rule, then any of {@link SUFFIXES} in that order. `+int4` needs `+reconstruct`, and rules that
 * change weights do not support {@link STEPS_FOR_DENSE_WEIGHTS}.
 *
 * @throws AppError `invalid_request`, param `method`
 */
export function parseMethod(name: string): Method {
  const method = METHODS.get(name)
  if (method) return method
  const nearest = suggestName(name, METHOD_NAMES)
  const weightChanging = RULES.filter((rule) => rule.changesWeights).map((rule) => rule.name)
  throw new AppError(
    'invalid_request',
    `There is no pruning method '${name}'.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} ` +
      `The rules are ${RULES.map((rule) => rule.name).join(', ')}; after one may come ${SUFFIXES.join(', ')}, in this order ` +
      `(+int4 only with +reconstruct; after ${weightChanging.join(' and ')}, which change weights, neither ` +
      `${STEPS_FOR_DENSE_WEIGHTS.map(suffixOf).join(' nor ')}).`,
    { param: 'method' },
  )
}

function suffixOf(step: Step): string {
  return `+${step}`
}

/** Returns every choice of steps, in the order in which methods are listed. */
function combinationsOf(steps: readonly Step[]): Step[][] {
  return steps.reduce<Step[][]>(
    (chosen, step) => [...chosen, ...chosen.map((before) => [...before, step])],
    [[]],
  )
}

/** Returns the methods of a rule: with every combination of steps that may follow it. */
function methodsOf(rule: PruneRule): Method[] {
  return combinationsOf(ALLOCATION_STEPS)
    .flatMap((allocation) =>
      combinationsOf(REFINEMENT_STEPS).map((refinement) => [...allocation, ...refinement]),
    )
    .filter((steps) => !steps.includes('int4') || steps.includes('reconstruct'))
    .filter((steps) => !rule.changesWeights || !STEPS_FOR_DENSE_WEIGHTS.some((step) => steps.includes(step)))
    .map((steps) => methodOf(rule, steps))
}

function methodOf(rule: PruneRule, steps: readonly Step[]): Method {
  const [allocated, rows] = [steps.includes('allocated'), steps.includes('rows')]
  const [swaps, reconstruct] = [steps.includes('swaps'), steps.includes('reconstruct')]
  const needs = new Set(rule.needs)
  if (rows) needs.add('square_norm')
  if (swaps || reconstruct) needs.add('second_moment')
  return {
    name: rule.name + steps.map(suffixOf).join(''),
    rule,
    allocated,
    rows,
    swaps,
    reconstruct,
    int4: steps.includes('int4'),
    needs: [...needs],
    datasets: needs.size > 0 && rule.datasets === 'none' ? 'accumulated' : rule.datasets,
    changesWeights: rule.changesWeights || reconstruct,
  }
}
