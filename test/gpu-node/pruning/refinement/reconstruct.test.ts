import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  createReconstructor,
  type Reconstructor,
} from '../../../../gpu-node/src/pruning/refinement/reconstruct.ts'
import type { ReconstructionTask } from '../../../../gpu-node/src/pruning/refinement/reconstruct-rows.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'
import {
  dampedError,
  dampedMoment,
  isKept,
  outputError,
  randomTask,
  setMoment,
} from '../../../support/pruning/reconstruction-task.ts'

let exact: Reconstructor
let usual: Reconstructor
beforeAll(async () => {
  exact = await createReconstructor(1, { tolerance: 1e-7 })
  usual = await createReconstructor(2)
})
afterAll(() => Promise.all([exact.release(), usual.release()]))

const cases = [
  { pattern: '0.5', scope: 'row', rows: 23, cols: 40 },
  { pattern: '0.7', scope: 'matrix', rows: 37, cols: 61 },
  { pattern: '2:4', scope: 'row', rows: 16, cols: 64 },
  { pattern: '5:16', scope: 'row', rows: 9, cols: 48 },
  { pattern: '0.5', scope: 'row', rows: 1, cols: 3 },
] as const

test.each(cases)(
  '$pattern of [$rows, $cols]: the weights are those of a direct solution in f64',
  async (given) => {
    for (let seed = 1; seed <= 3; seed++) {
      const task = randomTask(given, seed)
      const { weights } = await exact.solve(task)
      expect(largestDifference(weights, solvedDirectly(task)), `seed ${seed}`).toBeLessThan(2e-5)
    }
  },
)

test.each(cases)('$pattern of [$rows, $cols]: no row gets worse, and pruned weights are 0', async (given) => {
  for (let seed = 1; seed <= 3; seed++) {
    const task = randomTask(given, seed)
    const { rows, cols } = task
    const masked = task.weights.map((weight, i) => (isKept(task, i) ? weight : 0))
    const { weights, before, after } = await usual.solve(task)
    const best = solvedDirectly(task)
    for (let row = 0; row < rows; row++) {
      const start = dampedError(task, masked, row)
      const end = dampedError(task, weights, row)
      expect(end, `seed ${seed}`).toBeLessThanOrEqual(start)
      expect(end - dampedError(task, best, row), `seed ${seed}`).toBeLessThan(1e-3 * start)
    }
    expect(weights.filter((weight, i) => weight !== 0 && !isKept(task, i))).toHaveLength(0)
    expect(Math.abs(before / outputError(task, masked) - 1)).toBeLessThan(1e-9)
    expect(Math.abs(after / outputError(task, weights) - 1)).toBeLessThan(1e-9)
    expect(after).toBeLessThan(before)
    expect(weights).toHaveLength(rows * cols)
  }
})

describe('cases without anything to solve', () => {
  test('a row that keeps all its weights is unchanged, beside one that keeps none and one that keeps half', async () => {
    const task = randomTask({ pattern: '0.5', scope: 'row', rows: 3, cols: 16 }, 5)
    task.bits.fill(0xff, 0, 2)
    task.bits.fill(0, 2, 4)
    const { weights } = await exact.solve(task)
    expect(weights.subarray(0, 16)).toEqual(task.weights.subarray(0, 16))
    expect(weights.subarray(16, 32)).toEqual(new Float32Array(16))
    expect(largestDifference(weights, solvedDirectly(task))).toBeLessThan(2e-5)
  })

  test('inputs that are always 0 keep the dense values of surviving weights', async () => {
    const task = randomTask({ pattern: '2:4', scope: 'row', rows: 4, cols: 16 }, 6)
    task.moment.fill(0)
    const { weights, before, after } = await usual.solve(task)
    expect(weights).toEqual(task.weights.map((weight, i) => (isKept(task, i) ? weight : 0)))
    expect([before, after]).toEqual([0, 0])
  })
})

test('inputs almost in one direction and of very different sizes are solved as exactly', async () => {
  const task = randomTask({ pattern: '0.5', scope: 'row', rows: 8, cols: 48 }, 7)
  const random = createRandom(8)
  const size = normals(random, task.cols, 0, 1).map((exponent) => 10 ** exponent)
  setMoment(task, (a, b) => size[a]! * size[b]! * (a === b ? 1.0001 : 1))
  const { weights } = await exact.solve(task)
  const best = solvedDirectly(task)
  for (let row = 0; row < task.rows; row++) {
    const [end, least] = [dampedError(task, weights, row), dampedError(task, best, row)]
    expect(Math.abs(end / least - 1)).toBeLessThan(1e-6)
  }
})

test.each([
  { rows: 96, cols: 160 },
  // More rows than are solved at once.
  { rows: 130, cols: 60 },
])('[$rows, $cols]: the weights do not depend on the number of threads', async (given) => {
  const task = randomTask({ pattern: '0.5', scope: 'row', ...given }, 9)
  const results = []
  for (const threads of [1, 2, 3, 8]) {
    const reconstructor = await createReconstructor(threads)
    results.push(await reconstructor.solve(task))
    await reconstructor.release()
  }
  for (const result of results) expect(result).toEqual(results[0])
})

/** Solves the normal equations of every row by Gaussian elimination with pivoting. */
function solvedDirectly(task: ReconstructionTask): Float64Array {
  const { rows, cols, weights } = task
  const a = dampedMoment(task)
  const solution = new Float64Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    const w = weights.subarray(row * cols, (row + 1) * cols)
    const kept = a.map((_, col) => col).filter((col) => isKept(task, row * cols + col))
    const system = kept.map((r) => [
      ...kept.map((c) => a[r]![c]!),
      a[r]!.reduce((sum, value, c) => sum + value * w[c]!, 0),
    ])
    eliminate(system)
    kept.forEach((col, i) => (solution[row * cols + col] = system[i]!.at(-1)!))
  }
  return solution
}

/** Transforms `[A | b]` to `[I | A⁻¹ b]`. */
function eliminate(system: number[][]): void {
  for (let col = 0; col < system.length; col++) {
    const pivot = system
      .slice(col)
      .reduce((best, line, i) => (Math.abs(line[col]!) > Math.abs(system[best]![col]!) ? col + i : best), col)
    ;[system[col], system[pivot]] = [system[pivot]!, system[col]!]
    const lead = system[col]![col]!
    system[col] = system[col]!.map((value) => value / lead)
    for (let row = 0; row < system.length; row++) {
      const factor = system[row]![col]!
      if (row !== col) system[row] = system[row]!.map((value, i) => value - factor * system[col]![i]!)
    }
  }
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0)
}
