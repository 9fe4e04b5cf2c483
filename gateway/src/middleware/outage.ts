import { AppError } from '@copal/shared/errors.ts'

/** When to come back while a part that the gateway stands on does not answer. */
const AGAIN_S = 5

/**
 * What a client is told when the database, or another part that the gateway stands on, failed in a way that passes:
 * `service_unavailable`, with the time to come back. Data that the database refuses is not that.
 *
 * @returns undefined for any other error
 */
export function outageOf(thrown: unknown): AppError | undefined {
  if (thrown instanceof AppError || !chainOf(thrown).some(passes)) return undefined
  const message = `A part that the gateway needs does not answer now. Try again in ${AGAIN_S} s.`
  return new AppError('service_unavailable', message, { cause: thrown, retryAfterS: AGAIN_S })
}

/** An error, its cause, the cause of that, and so on. */
export function chainOf(thrown: unknown): Error[] {
  const chain: Error[] = []
  for (let error = thrown; error instanceof Error && !chain.includes(error); error = error.cause)
    chain.push(error)
  return chain
}

/** SQLite's codes for a statement, or its data, that fails each time: a table that is not there, a value that is refused. */
const STATEMENT_FAULT = /SQLITE_(?:CONSTRAINT|ERROR|MISMATCH|RANGE|TOOBIG)/

/** All that the runtime tells of a fault of its own, as where a database's file cannot be read; its log tells the rest. */
const RUNTIME_FAULT = /^internal error; reference = \w+$/

/** What D1 begins its errors with, and what the runtime marks the errors of broken and flooded connections with. */
function passes(error: Error): boolean {
  if (RUNTIME_FAULT.test(error.message)) return true
  if (error.message.startsWith('D1_ERROR:')) return !STATEMENT_FAULT.test(error.message)
  return (
    ('retryable' in error && error.retryable === true) || ('overloaded' in error && error.overloaded === true)
  )
}
