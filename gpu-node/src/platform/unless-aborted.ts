import { AppError } from '@copal/shared/errors.ts'

/** Creates the error for a request whose client left or whose caller gave up. */
export function cancelled(): AppError {
  return new AppError('client_closed_request', 'The client closed the request.')
}

/**
 * Returns the result of `work`, unless the client leaves first.
 *
 * @throws AppError `client_closed_request`
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const { promise: left, reject } = Promise.withResolvers<never>()
  const leave = () => reject(cancelled())
  signal?.addEventListener('abort', leave, { once: true })
  if (signal?.aborted) leave()
  try {
    return await Promise.race([work, left])
  } finally {
    signal?.removeEventListener('abort', leave)
  }
}

/**
 * Does a piece of a start, unless the start is cancelled before or meanwhile.
 *
 * @throws the signal's reason
 */
export async function unlessCancelled<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  try {
    return await unlessAborted(work(), signal)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}
