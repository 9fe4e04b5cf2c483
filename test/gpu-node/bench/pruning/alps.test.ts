import { afterAll, beforeAll, expect, test } from 'vitest'
import { countBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { createAlps, type AlpsSolver, type AlpsTask } from '../../../../gpu-node/bench/pruning/alps.ts'
import { continualWanda } from '../../../../gpu-node/src/pruning/methods/wanda.ts'
import { unfolded } from '../../../../gpu-node/src/pruning/statistics/packed-triangle.ts'
import {
  createReconstructor,
  type Reconstructor,
} from '../../../../gpu-node/src/pruning/refinement/reconstruct.ts'
import { randomProblem, type RandomProblem } from '../../../support/pruning/prune-problem.ts'

let alps: AlpsSolver
let reconstructor: Reconstructor
beforeAll(async () => {
  alps = await createAlps(1)
  reconstructor = await createReconstructor(1, { tolerance: 1e-6 })
})
afterAll(() => Promise.all([alps.release(), reconstructor.release()]))

const SEEDS = [1, 2, 3, 4]

test.each([
  { pattern: '0.5', scope: 'row', kept: 24 * 20 },
  { pattern: '0.7', scope: 'matrix', kept: 24 * 12 },
  { pattern: '2:4', scope: 'row', kept: 24 * 20 },
] as const)(
  '$pattern by $scope keeps exactly as many weights as the pattern says, and what is pruned is 0',
  async (given) => {
    const { pattern, scope, kept } = given
    const { rows, cols, bits, weights } = await prune(
      randomProblem(1, { rows: 24, cols: 40 }),
      pattern,
      scope,
    )
    expect(countBits(bits)).toBe(kept)
    expect(weights.filter((weight, i) => weight !== 0 && !isKept(bits, cols, i))).toHaveLength(0)
    for (let row = 0; row < rows && scope === 'row'; row++)
      expect(countBits(bits, row * rowBytes(cols), (row + 1) * rowBytes(cols))).toBe(kept / rows)
  },
)

test.each(['0.5', '0.7', '2:4'])(
  '%s: the weights are nearly the best of their mask, and lower the error of a Wanda mask with its best weights',
  async (pattern) => {
    let [own, best, wanda] = [0, 0, 0]
    for (const seed of SEEDS) {
      const problem = randomProblem(seed, { rows: 24, cols: 40 })
      const task = taskOf(problem)
      const moment = unfolded(task.moment, task.cols)
      const { bits, weights } = await prune(problem, pattern)
      own += error(task, weights)
      best += error(task, (await reconstructor.solve({ ...task, moment, bits })).weights)
      const mask = continualWanda.choose(problem, parsePattern(pattern), 'row').bits
      wanda += error(task, (await reconstructor.solve({ ...task, moment, bits: mask })).weights)
    }
    expect(own).toBeGreaterThan(best * (1 - 1e-6))
    expect(own).toBeLessThan(best * 1.02)
    expect(own).toBeLessThan(wanda * 0.9)
  },
)

test('where inputs do not depend on each other it keeps dense weights, and hardly others than the best', async () => {
  const problem = randomProblem(5, { rows: 16, cols: 24, dead: [] })
  const { second_moment: moment } = problem.statistics
  for (let row = 0, at = 0; row < problem.cols; row++)
    for (let col = row; col < problem.cols; col++, at++) if (col > row) moment[at] = 0
  const task = taskOf(problem)
  const { bits, weights } = await prune(problem, '0.5')
  const moved = weights.map((weight, i) =>
    isKept(bits, problem.cols, i) ? Math.abs(weight - problem.weights[i]!) : 0,
  )
  expect(Math.max(...moved)).toBeLessThan(1e-5)
  const wanda = continualWanda.choose(problem, parsePattern('0.5'), 'row').bits
  const best = problem.weights.map((weight, i) => (isKept(wanda, problem.cols, i) ? weight : 0))
  expect(error(task, weights)).toBeLessThan(1.01 * error(task, best))
})

async function prune(problem: RandomProblem, pattern: string, scope: 'row' | 'matrix' = 'row') {
  const task = taskOf(problem)
  return { ...task, ...(await alps.prune(task, parsePattern(pattern), scope)) }
}

function taskOf({ rows, cols, weights, tokens, statistics }: RandomProblem): AlpsTask {
  return { rows, cols, weights, moment: statistics.second_moment.map((sum) => sum / tokens) }
}

/** `tr(E (H + λ I) Eᵀ)` */
function error({ rows, cols, weights, moment }: AlpsTask, kept: Float32Array): number {
  const at = (a: number, b: number) =>
    Math.min(a, b) * cols - (Math.min(a, b) * (Math.min(a, b) - 1)) / 2 + Math.abs(a - b)
  let trace = 0
  for (let col = 0; col < cols; col++) trace += moment[at(col, col)]!
  let sum = 0
  for (let row = 0; row < rows; row++) {
    const e = Array.from({ length: cols }, (_, col) => weights[row * cols + col]! - kept[row * cols + col]!)
    for (let a = 0; a < cols; a++) {
      for (let b = 0; b < cols; b++) sum += e[a]! * e[b]! * moment[at(a, b)]!
      sum += ((0.01 * trace) / cols) * e[a]! ** 2
    }
  }
  return sum
}

function isKept(bits: Uint8Array, cols: number, index: number): boolean {
  const [row, col] = [Math.floor(index / cols), index % cols]
  return ((bits[row * rowBytes(cols) + (col >> 3)]! >> (col & 7)) & 1) === 1
}
