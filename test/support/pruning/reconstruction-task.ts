import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import {
  DAMPING,
  type ReconstructionTask,
} from '../../../gpu-node/src/pruning/refinement/reconstruct-rows.ts'
import { selectKept } from '../../../gpu-node/src/pruning/methods/select-kept.ts'
import { createRandom, normals } from '../harness/random.ts'

/** Returns correlated inputs, one of which is always 0, and a mask of the largest weights. */
export function randomTask(
  { pattern, scope, rows, cols }: { pattern: string; scope: 'row' | 'matrix'; rows: number; cols: number },
  seed: number,
): ReconstructionTask {
  const random = createRandom(seed)
  const common = normals(random, 200, 0, 1)
  const inputs = Array.from({ length: 200 }, (_, token) =>
    normals(random, cols, common[token]!, 0.7).map((x, col) => (col === 2 ? 0 : x * (1 + (col % 3)))),
  )
  const weights = normals(random, rows * cols, 0, 1)
  const bits = selectKept(Float64Array.from(weights, Math.abs), rows, cols, parsePattern(pattern), scope)
  const task = { rows, cols, weights, moment: new Float64Array(cols * cols), bits }
  setMoment(task, (a, b) => inputs.reduce((sum, x) => sum + x[a]! * x[b]!, 0) / inputs.length)
  return task
}

/** Sets every element of H. */
export function setMoment(
  { moment, cols }: ReconstructionTask,
  value: (a: number, b: number) => number,
): void {
  for (let a = 0; a < cols; a++) for (let b = 0; b < cols; b++) moment[a * cols + b] = value(a, b)
}

/** Returns whether the mask keeps the weight at an index of `[rows, cols]`. */
export function isKept({ cols, bits }: ReconstructionTask, index: number): boolean {
  const [row, col] = [Math.floor(index / cols), index % cols]
  return ((bits[row * rowBytes(cols) + (col >> 3)]! >> (col & 7)) & 1) === 1
}

/** Returns the full matrix `H + λ I`. */
export function dampedMoment(task: ReconstructionTask, share = DAMPING): number[][] {
  const { cols, moment } = task
  const full = Array.from({ length: cols }, (_, a) => [...moment.subarray(a * cols, (a + 1) * cols)])
  const mean = full.reduce((sum, line, a) => sum + line[a]!, 0) / cols
  full.forEach((line, a) => (line[a]! += share * mean))
  return full
}

/** Returns `(w − a) (H + λ I) (w − a)ᵀ` of one row. */
export function dampedError(
  task: ReconstructionTask,
  kept: ArrayLike<number>,
  row: number,
  share = DAMPING,
): number {
  const { cols, weights } = task
  const e = Array.from({ length: cols }, (_, col) => weights[row * cols + col]! - kept[row * cols + col]!)
  return dampedMoment(task, share).reduce(
    (sum, line, a) => sum + e[a]! * line.reduce((inner, value, b) => inner + value * e[b]!, 0),
    0,
  )
}

/** Returns `tr((W − A) H (W − A)ᵀ)`. */
export function outputError(task: ReconstructionTask, kept: ArrayLike<number>): number {
  let sum = 0
  for (let row = 0; row < task.rows; row++) sum += dampedError(task, kept, row, 0)
  return sum
}
