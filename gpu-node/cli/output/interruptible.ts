import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ProgressBar } from './progress-bar.ts'

/**
 * Runs work that shows its progress in a bar, and ends the bar with it.
 *
 * @param message the message of the error when the user presses Ctrl-C
 * @throws UserError `interrupted` when the signal ended the work
 */
export async function interruptible<T>(
  signal: AbortSignal,
  bar: ProgressBar,
  message: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!signal.aborted) throw error
    throw new UserError('interrupted', message)
  } finally {
    bar.end()
  }
}
