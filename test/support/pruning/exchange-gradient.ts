import {
  computeRowErrors,
  copyPrunedWeights,
  type ExchangeLinear,
} from '../../../gpu-node/src/pruning/refinement/exchange.ts'

/** Computes the gradient `E H` of a linear's current mask by its definition, and the errors. */
export function measureGradientByDefinition(linear: ExchangeLinear): void {
  const { rows, cols, moment, gradient } = linear
  const pruned = new Float64Array(rows * cols)
  copyPrunedWeights(linear, pruned)
  gradient.fill(0)
  for (let row = 0; row < rows; row++) {
    for (let a = 0; a < cols; a++) {
      const weight = pruned[row * cols + a]!
      if (weight === 0) continue
      for (let b = 0; b < cols; b++) gradient[row * cols + b]! += weight * moment[a * cols + b]!
    }
  }
  computeRowErrors(linear)
}
