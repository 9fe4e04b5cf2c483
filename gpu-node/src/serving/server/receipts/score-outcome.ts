import type { ScoringOutcome } from '@copal/shared/wire/receipts.ts'
import { AppError, type ErrorCode } from '@copal/shared/errors.ts'

const FOR_WANT_OF_TIME: readonly ErrorCode[] = ['overloaded', 'rate_limit_exceeded', 'client_closed_request']

/** Returns the outcome of a failed scoring: `budget` for load or a timeout, `evicted` if its weights were replaced. */
export function failureOutcome(error: unknown): Extract<ScoringOutcome, 'budget' | 'evicted' | 'failed'> {
  if (!(error instanceof AppError)) return 'failed'
  if (FOR_WANT_OF_TIME.includes(error.code)) return 'budget'
  return error.code === 'deadline_exceeded' ? 'evicted' : 'failed'
}

/** Sums negative log-likelihoods in f64. */
export function sum(values: Float32Array): number {
  let total = 0
  for (const value of values) total += value
  return total
}
