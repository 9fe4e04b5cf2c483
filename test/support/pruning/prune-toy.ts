import { readFileSync } from 'node:fs'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { StatisticName } from '../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import type { LinearProblem } from '../../../gpu-node/src/pruning/methods/prune-rule.ts'

/** `fixtures/prune-toy.json`: one linear, three datasets, and what the reference selects from their sums. */
interface PruneToy {
  W: number[][]
  X: number[][][]
  stages: {
    datasets: number
    masks: Record<string, string[]>
    error: Record<string, number>
    'sparsegpt_weights/matrix': number[][]
    'sparsegpt_weights/2:4': number[][]
    'sparsegpt_weights/4:8': number[][]
  }[]
}

export const toy = JSON.parse(
  readFileSync(new URL('../../fixtures/prune-toy.json', import.meta.url), 'utf8'),
) as PruneToy

/** Returns the toy with the statistics of its first `datasets` accumulated in f64, straight from the definitions. */
export function accumulatedToy(datasets: number) {
  const rows = toy.W.length
  const cols = toy.W[0]!.length
  const tokens = toy.X.slice(0, datasets).flat()
  const squareNorm = new Float64Array(cols)
  const sensitivity = new Float64Array(rows * cols)
  const secondMoment = new Float64Array((cols * (cols + 1)) / 2)
  for (const x of tokens) {
    const y = toy.W.map((w) => w.reduce((sum, value, col) => sum + value * x[col]!, 0))
    for (let a = 0, at = 0; a < cols; a++) {
      squareNorm[a]! += x[a]! ** 2
      for (let row = 0; row < rows; row++) sensitivity[row * cols + a]! += Math.abs(y[row]!) * Math.abs(x[a]!)
      for (let b = a; b < cols; b++, at++) secondMoment[at]! += x[a]! * x[b]!
    }
  }
  const statistics = { square_norm: squareNorm, sensitivity, second_moment: secondMoment }
  return {
    rows,
    cols,
    tokens: tokens.length,
    weights: Float64Array.from(toy.W.flat()),
    statistic: (name: StatisticName) => statistics[name],
  }
}

/** Returns the toy in the form that a pruning rule takes: weights in f32. */
export function toyProblem(datasets: number): LinearProblem {
  const { weights, ...rest } = accumulatedToy(datasets)
  return { name: 'toy', weights: Float32Array.from(weights), ...rest }
}

/** Formats rows of mask bits as the golden file does. */
export function bitStrings(bits: Uint8Array, rows: number, cols: number): string[] {
  const width = rowBytes(cols)
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: cols }, (__, col) => (bits[row * width + (col >> 3)]! >> (col & 7)) & 1).join(''),
  )
}
