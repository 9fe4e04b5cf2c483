import { parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import type { Artifact } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { statisticTensor, type StatisticName } from '@copal/gpu-node/pruning/statistics/statistic-names.ts'
import { continualSparseGpt } from '@copal/gpu-node/pruning/methods/sparsegpt.ts'
import { continualWanda } from '@copal/gpu-node/pruning/methods/wanda.ts'
import { createMomentProduct } from '@copal/gpu-node/pruning/refinement/moment-product.ts'
import { createReconstructor } from '@copal/gpu-node/pruning/refinement/reconstruct.ts'
import { accumulate } from '@copal/gpu-node/pruning/statistics/artifact-folder.ts'
import { createSwapPool } from '@copal/gpu-node/pruning/refinement/exchange-pool.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type BlockLinear,
} from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { loadTensor } from '@copal/gpu-node/model/master/read-master.ts'
import { createAlps } from './alps.ts'
import { line } from '../measurement/report.ts'

/** What one way to prune leaves of the output error `tr(W H Wᵀ)` that pruning everything would make. */
interface Outcome {
  processorMs: number
  /** One a linear, in the order in which they were pruned. */
  errors: number[]
}

/** Which blocks and patterns are compared; `scopes` are ALPS', what the product does is per row. */
export interface JointSolverOptions {
  layers: readonly number[]
  patterns: readonly string[]
  scopes: readonly MaskScope[]
  threads: number
}

/**
 * ALPS against what the product does, on the same statistics: the output error of each linear of `layers` relative
 * to that of `continual-wanda+swaps+reconstruct`, and processor time. Linears go one after another through all ways.
 *
 * @returns lines for people
 */
export async function benchJointSolver(
  model: DenseModel,
  artifacts: readonly Artifact[],
  { layers, patterns, scopes, threads }: JointSolverOptions,
): Promise<string[]> {
  const { config, master } = model
  const tokens = artifacts.flatMap(({ parts }) => parts).reduce((sum, part) => sum + part.tokens, 0)
  const pool = createSwapPool(threads)
  const reconstructor = await createReconstructor(threads)
  const alps = await createAlps(threads)
  const product = await createMomentProduct(threads)
  const outcomes = new Map<string, Outcome>()
  const linears: BlockLinear[] = []
  let iterations = 0
  let runs = 0

  for (const layer of layers) {
    for (const linear of BLOCK_LINEARS) {
      linears.push(linear)
      const [rows, cols] = linearShape(config, linear)
      const name = linearName(layer, linear)
      const weights = await loadTensor(master, name)
      const sums = new Map<StatisticName, Float64Array>()
      for (const statistic of ['square_norm', 'second_moment'] as const)
        sums.set(statistic, await accumulate(artifacts, layer, statisticTensor(statistic, linear)))
      const statistic = (wanted: StatisticName) => sums.get(wanted) as Float64Array
      const problem = { name, rows, cols, weights, tokens, statistic }
      const moment = statistic('second_moment').map((value) => value / tokens)
      const full = pool.unfold(moment, cols)
      const wholeError = await outputError(weights)

      async function outputError(error: Float32Array | Float64Array): Promise<number> {
        const values = Float64Array.from(error)
        const result = new Float64Array(rows * cols)
        await product.multiply(values, full, result, [rows, cols])
        let sum = 0
        for (let i = 0; i < result.length; i++) sum += (values[i] as number) * (result[i] as number)
        return sum
      }
      async function judge(way: string, prune: () => Promise<Float32Array>): Promise<void> {
        const started = process.cpuUsage()
        const pruned = await prune()
        const { user, system } = process.cpuUsage(started)
        const outcome = outcomes.get(way) ?? { processorMs: 0, errors: [] }
        outcomes.set(way, outcome)
        outcome.processorMs += (user + system) / 1000
        const error = await outputError(weights.map((weight, i) => weight - (pruned[i] as number)))
        outcome.errors.push(error / wholeError)
      }

      for (const text of patterns) {
        const pattern = parsePattern(text)
        const group = pattern.kind === 'n:m' ? pattern.group : null
        await judge(`${text} continual-wanda+swaps+reconstruct`, async () => {
          const { bits } = continualWanda.choose(problem, pattern, 'row')
          await pool.refine({ rows, cols, group, weights, moment: full, bits })
          return (await reconstructor.solve({ rows, cols, weights, moment: full, bits })).weights
        })
        await judge(`${text} continual-sparsegpt`, () => {
          const chosen = continualSparseGpt.choose(problem, pattern, 'row').weights
          return Promise.resolve(chosen as Float32Array)
        })
        for (const scope of pattern.kind === 'n:m' ? (['row'] as const) : scopes) {
          await judge(`${text} ALPS${pattern.kind === 'n:m' ? '' : `, per ${scope}`}`, async () => {
            const result = await alps.prune({ rows, cols, weights, moment }, pattern, scope)
            iterations += result.iterations
            runs++
            return result.weights
          })
        }
      }
    }
  }
  await pool.close()
  await Promise.all([reconstructor, alps, product].map((part) => part.release()))
  return report(outcomes, linears, patterns, iterations / runs)
}

function report(
  outcomes: ReadonlyMap<string, Outcome>,
  linears: readonly BlockLinear[],
  patterns: readonly string[],
  iterations: number,
): string[] {
  const lines = [`${linears.length} linears; ${iterations.toFixed(0)} iterations of ADMM on average`]
  for (const pattern of patterns) {
    const ours = outcomes.get(`${pattern} continual-wanda+swaps+reconstruct`)?.errors ?? []
    for (const [way, { processorMs, errors }] of outcomes) {
      if (!way.startsWith(`${pattern} `)) continue
      const ratios = errors.map((error, i) => error / (ours[i] ?? Number.NaN))
      const byLinear = BLOCK_LINEARS.map((linear) => {
        const own = ratios.filter((_, i) => linears[i] === linear)
        return `${linear.split('.').at(-1)} ${geometricMean(own).toFixed(3)}`
      })
      const seconds = (processorMs / 1000).toFixed(1)
      lines.push(
        line(
          way,
          `error ${geometricMean(errors).toExponential(3)}, × ${geometricMean(ratios).toFixed(4)} ` +
            `(${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}: ${byLinear.join(', ')}), ${seconds} s of processor`,
        ),
      )
    }
  }
  return lines
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}
