import { AppError } from '@copal/shared/errors.ts'
import { describeSystemError } from './system-error.ts'

/** A failure whose message is for the user of a command: shown as one line, never with a stack. */
export class UserError extends Error {
  override readonly name = 'UserError'
  /** Machine-readable cause, shown with `--json`: an error code of the API or one of the command's own. */
  readonly code: string

  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
  }
}

/**
 * Converts a thrown value into a user error where its message explains the failure: an AppError, or an error of the
 * operating system.
 *
 * @param cwd paths below it are shown relative to it
 * @returns undefined for any other value, which is a defect and keeps its stack
 */
export function toUserError(thrown: unknown, cwd: string): UserError | undefined {
  if (thrown instanceof UserError) return thrown
  if (thrown instanceof AppError) return new UserError(thrown.code, thrown.message, { cause: thrown })
  const described = describeSystemError(thrown, cwd)
  return described === undefined
    ? undefined
    : new UserError('system_error', `${described}.`, { cause: thrown })
}
