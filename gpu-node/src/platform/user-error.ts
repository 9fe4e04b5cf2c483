import { AppError } from '@copal/shared/errors.ts'
import { describeSystemError } from './system-error.ts'

/** A failure with a message for the person at the terminal: shown as one line, never with a stack. */
export class CliError extends Error {
  override readonly name = 'CliError'
  /** Machine-readable cause, shown with `--json`: an error code of the API or one of the command's own. */
  readonly code: string

  constructor(code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
  }
}

/**
 * What was thrown as a failure that is told in one line: an AppError, and what the operating system refused.
 *
 * @param cwd paths below it are told from there
 * @returns undefined for a defect, which keeps its stack
 */
export function toCliError(thrown: unknown, cwd: string): CliError | undefined {
  if (thrown instanceof CliError) return thrown
  if (thrown instanceof AppError) return new CliError(thrown.code, thrown.message, { cause: thrown })
  const refused = describeSystemError(thrown, cwd)
  return refused === undefined ? undefined : new CliError('system_error', `${refused}.`, { cause: thrown })
}
