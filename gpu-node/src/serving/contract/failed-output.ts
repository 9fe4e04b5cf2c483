import { AppError } from '@copal/shared/errors.ts'
import type { SequenceOutput } from './backend.ts'

/**
 * Returns the output of work whose results are `invalid_output`, so that no other work of its step fails with it.
 *
 * @throws any other error
 */
export function failedOutput(error: unknown): SequenceOutput {
  if (error instanceof AppError && error.code === 'invalid_output')
    return { kind: 'failed', message: error.message }
  throw error
}
