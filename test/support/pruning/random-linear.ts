import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { selectKept } from '../../../gpu-node/src/pruning/methods/select-kept.ts'
import type { ExchangeLinear } from '../../../gpu-node/src/pruning/refinement/exchange.ts'
import { createRandom, normals } from '../harness/random.ts'
import { measureGradientByDefinition } from './exchange-gradient.ts'

/** Returns a linear with correlated inputs of a few tokens, one of which is always 0, and a Wanda mask. */
export function randomLinear(
  given: { pattern: string; cols: number; rows: number; coarse?: boolean },
  seed: number,
): ExchangeLinear & { weights: Float32Array } {
  const { cols, rows, coarse } = given
  const tokens = cols > 1000 ? 20 : 60
  const random = createRandom(seed)
  const level = (value: number) => (coarse ? Math.round(value) : value)
  const common = normals(random, tokens, 0, 1)
  const moment = new Float64Array(cols * cols)
  for (let token = 0; token < tokens; token++) {
    const x = normals(random, cols, common[token]!, 0.7)
    for (let col = 0; col < cols; col++) x[col] = col === 5 ? 0 : level(x[col]! * (1 + (col % 3)))
    for (let a = 0; a < cols; a++)
      for (let b = 0; b < cols; b++) moment[a * cols + b]! += (x[a]! * x[b]!) / tokens
  }
  const weights = Float32Array.from(normals(random, rows * cols, 0, 1), level)
  const score = Float64Array.from(
    weights,
    (w, i) => Math.abs(w) * Math.sqrt(moment[(i % cols) * (cols + 1)]!),
  )
  const pattern = parsePattern(given.pattern)
  const linear = {
    rows,
    cols,
    group: pattern.kind === 'n:m' ? pattern.group : null,
    weights,
    moment,
    bits: selectKept(score, rows, cols, pattern, 'row'),
    gradient: new Float64Array(rows * cols),
    errors: new Float64Array(rows),
  }
  measureGradientByDefinition(linear)
  return linear
}

/** Returns the packed upper triangle, as in statistics. */
export function upperTriangle(moment: Float64Array, size: number): Float64Array {
  return moment.filter((_, index) => index % size >= Math.floor(index / size))
}
