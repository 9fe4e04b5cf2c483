import { AppError } from '@copal/shared/errors.ts'

/** Returns the field and the message of the error by which a request is rejected with the status 400. */
export function requestError(request: () => unknown): { param: string | null; message: string } {
  try {
    request()
  } catch (error) {
    if (error instanceof AppError && error.status === 400) return error
    throw error
  }
  throw new Error('the request was accepted')
}
