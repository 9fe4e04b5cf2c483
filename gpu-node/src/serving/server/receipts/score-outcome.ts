import { AppError } from '@copal/shared/errors.ts'

/** Returns whether scoring failed by load or timeout; then the text is not scored, by design. */
export function isExpectedScoringFailure(error: unknown): boolean {
  return error instanceof AppError && (error.code === 'overloaded' || error.code === 'client_closed_request')
}

/** Sums negative log-likelihoods in f64. */
export function sum(values: Float32Array): number {
  let total = 0
  for (const value of values) total += value
  return total
}
