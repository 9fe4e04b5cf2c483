import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ProgressBar } from './progress-bar.ts'

/**
 * Runs work with a bar of its progress, which ends with it.
 *
 * @param message what Ctrl-C leaves behind
 * @throws UserError `interrupted` when the signal ended it
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
