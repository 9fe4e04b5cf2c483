import { AppError } from '@copal/shared/errors.ts'

/** Creates the error of a missing or invalid variable or secret; `why` names it and says what to do. */
export function notConfigured(why: string): AppError {
  return new AppError('internal_error', `The gateway is not configured: ${why}`)
}
