import { AppError } from '@copal/shared/errors.ts'
import type { MaskScope, SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { BLOCK_LINEARS, linearName, linearShape, type BlockLinear } from '../../model/config/llama-config.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { loadTensor } from '../../model/master/read-master.ts'
import type { Artifact } from '../statistics/statistics-artifact.ts'
import { statisticTensorName, type StatisticName } from '../statistics/statistic-names.ts'
import { requireFiniteWeights } from '../../model/master/finite-weights.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { parseMethod, type Method } from '../methods/method-registry.ts'
import type { LinearChoice, LinearProblem } from '../methods/prune-rule.ts'
import { unfoldedTriangle } from '../statistics/packed-triangle.ts'
import { checkPatterns } from './mask-patterns.ts'
import { createReconstructor, type Reconstructor } from '../refinement/reconstruct.ts'
import { shareRows } from './share-rows.ts'
import { sumStatistics, type SummedStatistics } from './sum-statistics.ts'
import { createExchangePool } from '../refinement/exchange-pool.ts'
import type {
  CreateExchangeRefiner,
  ErrorReduction,
  ExchangeRefiner,
} from '../refinement/exchange-refiner.ts'

/** The choice for one linear. */
export interface ChosenLinear extends LinearChoice {
  name: string
  /** Error reduction by exchange; null if the method has none. */
  swaps: ErrorReduction | null
  /** Error reduction by reconstruction; null if the method has none. */
  reconstruction: ErrorReduction | null
}

/** The parts of a model that selection reads. */
export type SelectionModel = Pick<DenseModel, 'config' | 'master' | 'rowSensitivity'>

/** Options of {@link chooseMask}. */
export interface MaskSelection {
  model: SelectionModel
  artifacts: readonly Artifact[]
  selection: SelectionSpec
  threads: number
  /** Creates what exchanges weights; by default a pool of threads. */
  createExchange?: CreateExchangeRefiner | undefined
  /** Called with each linear in forward order, except those that stay dense. */
  onLinear: (linear: ChosenLinear) => Promise<void>
  /** Called after each block with the number of blocks done and the error reductions in the last one. */
  onBlock?: (done: number, chosen: readonly Pick<ChosenLinear, 'swaps' | 'reconstruction'>[]) => void
  /** The blocks `first … end - 1`; default all. */
  blocks?: { first: number; end: number }
  /** Factors for the statistics and tokens of artifacts, by id; an artifact that is not named has the factor 1. */
  factors?: ReadonlyMap<string, number> | undefined
}

/**
 * Chooses the weights that every linear keeps, from accumulated statistics and the dense weights: by the method's rule, then
 * exchange, then reconstruction. One linear is in memory at a time. The result does not depend on the number of threads, but it
 * can on the device that {@link MaskSelection.createExchange} uses.
 *
 * @throws DamagedArtifactError when statistics are missing or damaged
 * @throws AppError `invalid_request` for an unknown method or an invalid pattern; `unsupported_model`, naming the linear, when
 * weights or statistics are not finite
 */
export async function chooseMask(choice: MaskSelection): Promise<void> {
  const {
    model,
    artifacts,
    selection,
    threads,
    onLinear,
    onBlock,
    createExchange = createExchangePool,
  } = choice
  const { config } = model
  const { first, end } = choice.blocks ?? { first: 0, end: config.layers }
  const method = parseMethod(selection.method)
  const patterns = checkPatterns(config, selection)
  const summed = sumStatistics(artifacts, { weights: selection.weights, factors: choice.factors })
  const exchange = method.swaps ? createExchange(threads) : null
  let reconstructor: Reconstructor | null = null
  try {
    reconstructor = method.reconstruct ? await createReconstructor(threads, { int4: method.int4 }) : null
    for (let layer = first; layer < end; layer++) {
      const gains = []
      for (const linear of BLOCK_LINEARS) {
        const pattern = patterns.get(linearName(layer, linear))
        if (!pattern) continue
        const problem = await loadProblem(model, summed, layer, linear, method)
        const chosen = await chooseLinear(
          method,
          problem,
          { pattern, scope: selection.scope },
          { exchange, reconstructor },
        )
        await onLinear(chosen)
        for (const values of problem.statistics.values()) freeMemory(values)
        if (!chosen.weights) freeMemory(problem.weights)
        gains.push({ swaps: chosen.swaps, reconstruction: chosen.reconstruction })
      }
      onBlock?.(layer + 1, gains)
    }
  } finally {
    await exchange?.close()
    await reconstructor?.release()
  }
}

/** A linear to prune, as the input of a rule and its refinements. */
interface RefinedProblem extends LinearProblem {
  /** The statistics that {@link LinearProblem.statistic} returns. */
  statistics: Map<StatisticName, Float64Array<ArrayBuffer>>
  weights: Float32Array<ArrayBuffer>
  /** Sensitivity of its rows, `[rows]`, if it was measured. */
  sensitivity: Float32Array | undefined
}

/** Applies the rule and the refinements of the method to one linear. */
async function chooseLinear(
  method: Method,
  problem: RefinedProblem,
  { pattern, scope }: { pattern: SparsityPattern; scope: MaskScope },
  { exchange, reconstructor }: { exchange: ExchangeRefiner | null; reconstructor: Reconstructor | null },
): Promise<ChosenLinear> {
  const { name, rows, cols, weights } = problem
  const choice = applyRule(method, problem, pattern, scope)
  const { bits } = choice
  const chosen: ChosenLinear = { name, ...choice, swaps: null, reconstruction: null }
  if (!exchange && !reconstructor) return chosen
  const group = pattern.kind === 'n:m' ? pattern.group : null
  // Both refinements use one full H, because for a wide linear it is the largest array.
  let moment: Float64Array
  if (exchange) {
    const shared = unfoldMoment(problem, (triangle) => exchange.unfold(triangle, cols))
    chosen.swaps = await exchange.refine({ rows, cols, group, weights, moment: shared, bits })
    moment = shared
  } else {
    moment = unfoldMoment(problem, (triangle) => unfoldedTriangle(triangle, cols))
  }
  if (reconstructor) {
    const {
      before,
      after,
      weights: solved,
    } = await reconstructor.solve({ rows, cols, weights, moment, bits })
    chosen.weights = solved
    chosen.reconstruction = { before, after }
  }
  return chosen
}

/**
 * Applies the rule of a method.
 *
 * @throws AppError `unsupported_model`, naming the linear, when the rule meets values that are not finite
 */
function applyRule(
  { rule, name: method, rows, changesWeights }: Method,
  problem: RefinedProblem,
  pattern: SparsityPattern,
  scope: MaskScope,
): LinearChoice {
  try {
    const { sensitivity } = problem
    // An n:m pattern already determines how many weights each row keeps.
    const keptPerRow =
      rows && sensitivity && pattern.kind === 'ratio' ? shareRows(problem, pattern, sensitivity) : undefined
    const { bits, weights } = rule.choose({ ...problem, keptPerRow }, pattern, scope)
    // A weights file has values for every linear, also if the rule did not change them.
    return { bits, weights: changesWeights ? (weights ?? problem.weights) : null }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AppError(
      'unsupported_model',
      `'${method}' cannot prune '${problem.name}': ${error.message}. Calibrate on other text, or use another method.`,
      { cause: error },
    )
  }
}

async function loadProblem(
  { config, master, rowSensitivity }: SelectionModel,
  summed: SummedStatistics,
  layer: number,
  linear: BlockLinear,
  { needs, rows: sharesRows }: Method,
): Promise<RefinedProblem> {
  const [rows, cols] = linearShape(config, linear)
  const statistics = new Map<StatisticName, Float64Array<ArrayBuffer>>()
  for (const name of needs) {
    statistics.set(name, await summed.accumulate(layer, statisticTensorName(name, linear)))
  }
  const statistic = (name: StatisticName): Float64Array => {
    const values = statistics.get(name)
    if (!values) throw new Error(`the rule did not declare that it needs ${name}`)
    return values
  }
  const name = linearName(layer, linear)
  const weights = await loadTensor(master, name)
  requireFiniteWeights(weights, name)
  const { tokens } = summed
  const sensitivity = rowSensitivity?.linears[name]?.rows
  if (sharesRows && !sensitivity) throw new RangeError(`the row sensitivity of '${name}' was never measured`)
  return { name, rows, cols, weights, tokens, statistics, statistic, sensitivity }
}

/** Returns the full H, and frees the sum, which only the rule needed. */
function unfoldMoment<Full>(
  { statistics, tokens }: RefinedProblem,
  unfold: (triangle: Float64Array) => Full,
): Full {
  const sum = statistics.get('second_moment')
  if (!sum) throw new Error('a refinement needs second_moment')
  statistics.delete('second_moment')
  const moment = unfold(divideInPlace(sum, tokens))
  freeMemory(sum)
  return moment
}

/** Divides the values in place by the number of tokens. */
function divideInPlace(sum: Float64Array, tokens: number): Float64Array {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) / tokens
  return sum
}
