import { AppError } from '@copal/shared/errors.ts'

/** The client went away or the caller gave up. */
export function cancelled(): AppError {
  return new AppError('client_closed_request', 'The client closed the request.')
}

/**
 * What `work` gives, unless the client leaves before.
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
