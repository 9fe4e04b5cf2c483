import { AppError } from '@copal/shared/errors.ts'
import { HungCallError, unlessHung } from '../../../platform/hung-call.ts'

/** Time to find, choose or open a device, which may compile kernels for minutes. */
export const OPENING_TIMEOUT_MS = 10 * 60_000

/** Calls of the GPU addon, of which one may hang. */
export interface CallWatch {
  /** Makes a call, unless one has hung. `what` it is for completes "hangs in …". */
  run<T>(what: string, call: () => Promise<T>, timeoutMs: number): Promise<T>
  /** Returns whether a call has not returned yet: a process ends by `process.exit` only after it, see `killThisProcess`. */
  isRunning(): boolean
}

/**
 * Creates the watch of one process or engine. A call that does not return in its time fails as if the device was lost, and so do
 * all calls from then on, because each would wait for it.
 *
 * @param onHang called once
 */
export function createCallWatch(onHang: (error: AppError) => void): CallWatch {
  let hang: AppError | undefined
  let running = 0

  async function counted<T>(call: () => Promise<T>): Promise<T> {
    running += 1
    try {
      return await call()
    } finally {
      running -= 1
    }
  }

  return {
    async run(what, call, timeoutMs) {
      if (hang) throw hang
      try {
        return await unlessHung(counted(call), timeoutMs)
      } catch (error) {
        if (!(error instanceof HungCallError)) throw error
        if (!hang) onHang((hang = hungError(what, error)))
        throw hang
      }
    },
    isRunning: () => running > 0,
  }
}

/** Returns the error of a device that hangs, which nothing can use again. */
function hungError(what: string, cause: HungCallError): AppError {
  const lost = Object.assign(new Error(cause.message, { cause }), { code: 'DeviceLost' })
  return new AppError('node_failed', `The GPU or its driver hangs in ${what}: ${cause.message}.`, {
    cause: lost,
  })
}
