import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import type { Artifact } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { statisticTensorName } from '@copal/gpu-node/pruning/statistics/statistic-names.ts'
import { continualWanda } from '@copal/gpu-node/pruning/methods/wanda.ts'
import { createReconstructor } from '@copal/gpu-node/pruning/refinement/reconstruct.ts'
import { accumulateStatistic } from '@copal/gpu-node/pruning/statistics/artifact-folder.ts'
import { createExchangePool } from '@copal/gpu-node/pruning/refinement/exchange-pool.ts'
import { BLOCK_LINEARS, linearName, linearShape } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { loadTensor } from '@copal/gpu-node/model/master/read-master.ts'
import { line } from '../measurement/report.ts'

/** Time of one step over all linears, and the share of the output error that remains, as mean over linears. */
interface Cost {
  processorMs: number
  elapsedMs: number
  share: number
}

/**
 * Measures the swaps over all linears of a model, and the reconstruction after them to each of `tolerances`, from the
 * Wanda mask with 50 % per row. Each linear goes through all steps before the next one, so that the load of the machine
 * affects all steps alike.
 *
 * @returns lines for people
 */
export async function benchRefinements(
  model: DenseModel,
  artifacts: readonly Artifact[],
  { threads, tolerances }: { threads: number; tolerances: readonly number[] },
): Promise<string[]> {
  const { config, master } = model
  const pattern = parsePattern('0.5')
  const tokens = artifacts.flatMap(({ parts }) => parts).reduce((sum, part) => sum + part.tokens, 0)
  const pool = createExchangePool(threads)
  const iterations = tolerances.map(() => 0)
  const reconstructors = await Promise.all(
    tolerances.map((tolerance, index) =>
      createReconstructor(threads, {
        tolerance,
        onSolved: (effort) =>
          (iterations[index] = (iterations[index] ?? 0) + effort.rows * effort.iterations),
      }),
    ),
  )
  const costs = [pool, ...reconstructors].map((): Cost => ({ processorMs: 0, elapsedMs: 0, share: 0 }))
  let linears = 0
  let allRows = 0
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(config, linear)
      const name = linearName(layer, linear)
      const weights = await loadTensor(master, name)
      const norm = await accumulateStatistic(artifacts, layer, statisticTensorName('square_norm', linear))
      const problem = { name, rows, cols, weights, tokens, statistic: () => norm }
      const { bits } = continualWanda.choose(problem, pattern, 'row')
      const triangle = await accumulateStatistic(
        artifacts,
        layer,
        statisticTensorName('second_moment', linear),
      )
      for (let i = 0; i < triangle.length; i++) triangle[i] = (triangle[i] as number) / tokens
      const moment = pool.unfold(triangle, cols)
      linears++
      allRows += rows
      await timed(costs[0], () => pool.refine({ rows, cols, group: null, weights, moment, bits }))
      for (const [index, reconstructor] of reconstructors.entries()) {
        await timed(costs[index + 1], () => reconstructor.solve({ rows, cols, weights, moment, bits }))
      }
    }
  }
  await pool.close()
  for (const reconstructor of reconstructors) await reconstructor.release()
  return costs.map(({ processorMs, elapsedMs, share }, index) => {
    const tolerance = tolerances[index - 1]
    const mean = ((iterations[index - 1] ?? 0) / allRows).toFixed(0)
    return line(
      tolerance === undefined ? 'swaps' : `reconstruction to ${tolerance}, ${mean} iterations`,
      `${(processorMs / 1000).toFixed(1)} s of processor, ${(elapsedMs / 1000).toFixed(1)} s elapsed; leaves ${(share / linears).toFixed(5)} of the error`,
    )
  })
}

async function timed(
  cost: Cost | undefined,
  step: () => Promise<{ before: number; after: number }>,
): Promise<void> {
  if (!cost) throw new RangeError('there is no such step')
  const [processor, started] = [process.cpuUsage(), performance.now()]
  const { before, after } = await step()
  const { user, system } = process.cpuUsage(processor)
  cost.processorMs += (user + system) / 1000
  cost.elapsedMs += performance.now() - started
  cost.share += before > 0 ? after / before : 1
}
