import { UserError } from '@copal/gpu-node/platform/user-error.ts'

const MAX_ATTEMPTS = 5

/**
 * Runs a change that reads a state and writes it back, again if somebody else has changed the state in between.
 *
 * @throws the `conflict` of the last of five attempts
 */
export async function retryConflicts<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await change()
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== 'conflict' || attempt === MAX_ATTEMPTS) throw error
    }
  }
}
