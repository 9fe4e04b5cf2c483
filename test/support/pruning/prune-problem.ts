import type { LinearProblem } from '../../../gpu-node/src/pruning/methods/prune-rule.ts'
import { createRandom, normals } from '../harness/random.ts'

/** A linear with seeded weights and the statistics of seeded inputs, correlated, of different size, one dead. */
export interface RandomProblem extends LinearProblem {
  statistics: { square_norm: Float64Array; second_moment: Float64Array; sensitivity: Float64Array }
}

/** `tokens` inputs; fewer than `cols` make the second moment singular. `dead`: inputs that are always zero. */
export function randomProblem(
  seed: number,
  { rows, cols, tokens = 60, dead = [3] }: { rows: number; cols: number; tokens?: number; dead?: number[] },
): RandomProblem {
  const random = createRandom(seed)
  const weights = normals(random, rows * cols, 0, 1)
  const scale = normals(random, cols, 0, 1).map(Math.exp)
  const common = normals(random, tokens, 0, 1)
  const inputs = Array.from({ length: tokens }, (_, token) =>
    normals(random, cols, common[token]!, 0.8).map((x, col) => (dead.includes(col) ? 0 : x * scale[col]!)),
  )
  const squareNorm = new Float64Array(cols)
  const secondMoment = new Float64Array((cols * (cols + 1)) / 2)
  const sensitivity = new Float64Array(rows * cols)
  for (const x of inputs) {
    for (let a = 0, at = 0; a < cols; a++) {
      squareNorm[a]! += x[a]! ** 2
      for (let b = a; b < cols; b++, at++) secondMoment[at]! += x[a]! * x[b]!
    }
    for (let row = 0; row < rows; row++) {
      let y = 0
      for (let col = 0; col < cols; col++) y += weights[row * cols + col]! * x[col]!
      for (let col = 0; col < cols; col++) sensitivity[row * cols + col]! += Math.abs(y * x[col]!)
    }
  }
  const statistics = { square_norm: squareNorm, second_moment: secondMoment, sensitivity }
  return { name: 'linear', rows, cols, weights, tokens, statistics, statistic: (name) => statistics[name] }
}

/** Returns the same problem after its data were accumulated `times` times. */
export function replayed(problem: RandomProblem, times: number): RandomProblem {
  const [a, b, c] = [
    problem.statistics.square_norm,
    problem.statistics.second_moment,
    problem.statistics.sensitivity,
  ].map((sum) => sum.map((value) => value * times)) as [Float64Array, Float64Array, Float64Array]
  const statistics = { square_norm: a, second_moment: b, sensitivity: c }
  return { ...problem, tokens: problem.tokens * times, statistics, statistic: (name) => statistics[name] }
}
