import { AppError } from '@copal/shared/errors.ts'

/**
 * Rejects weights that are not finite, from which no score can be computed.
 *
 * @param name of the tensor
 * @throws AppError `unsupported_model` that names the tensor
 */
export function requireFiniteWeights(weights: Float32Array | Float64Array, name: string): void {
  let poison = 0
  // NaN and infinity minus infinity make the sum NaN, so no branch per element is needed.
  for (let i = 0; i < weights.length; i++) poison += (weights[i] as number) - (weights[i] as number)
  if (poison === 0) return
  throw new AppError(
    'unsupported_model',
    `The weights '${name}' hold a NaN or an infinity. Fetch the model again, or serve another.`,
  )
}
