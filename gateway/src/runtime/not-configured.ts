import { AppError } from '@copal/shared/errors.ts'

/** A variable or secret is missing or wrong: `why` names it and says what to do. */
export function notConfigured(why: string): AppError {
  return new AppError('internal_error', `The gateway is not configured: ${why}`)
}
