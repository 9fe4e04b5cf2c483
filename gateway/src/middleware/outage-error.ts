import { AppError } from '@copal/shared/errors.ts'
import { causeChain } from '../runtime/cause-chain.ts'

/** Seconds after which clients may retry during an outage. */
const RETRY_AFTER_S = 5

/**
 * Converts a transient failure of the database, or of another service that the gateway depends on, into the error
 * `service_unavailable` with a retry delay.
 *
 * @returns undefined for any other error, such as data that the database rejects
 */
export function toOutageError(thrown: unknown): AppError | undefined {
  if (thrown instanceof AppError || !causeChain(thrown).some(isTransient)) return undefined
  const message = `A service that the gateway depends on is not responding. Try again in ${RETRY_AFTER_S} s.`
  return new AppError('service_unavailable', message, { cause: thrown, retryAfterS: RETRY_AFTER_S })
}

/** SQLite codes of statements that fail every time, for example for a missing table or an invalid value. */
const PERMANENT_D1_ERROR = /SQLITE_(?:CONSTRAINT|ERROR|MISMATCH|RANGE|TOOBIG)/

/** The message of the runtime's own failures, for example an unreadable database file; details are in its log. */
const RUNTIME_ERROR = /^internal error; reference = \w+$/

/** Recognizes errors of the runtime, of D1, and of connections that broke or are overloaded. */
function isTransient(error: Error): boolean {
  if (RUNTIME_ERROR.test(error.message)) return true
  if (error.message.startsWith('D1_ERROR:')) return !PERMANENT_D1_ERROR.test(error.message)
  return (
    ('retryable' in error && error.retryable === true) || ('overloaded' in error && error.overloaded === true)
  )
}
