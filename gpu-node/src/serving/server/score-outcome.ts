import { AppError } from '@copal/shared/errors.ts'

/** Whether scoring may fail so: under load, or for want of time, some texts go unscored by design. */
export function isExpected(error: unknown): boolean {
  return error instanceof AppError && (error.code === 'overloaded' || error.code === 'client_closed_request')
}

/** The sum in f64 of negative log-likelihoods. */
export function sum(values: Float32Array): number {
  let total = 0
  for (const value of values) total += value
  return total
}
