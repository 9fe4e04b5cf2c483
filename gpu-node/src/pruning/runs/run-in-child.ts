import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import type { CalibrationProgress } from './calibration-task.ts'
import type { ChildMessage, ChildRequest, TrafficMessage } from './pruning-child-protocol.ts'

const PROGRAM = fileURLToPath(new URL('./pruning-child.ts', import.meta.url))

/** The result of a child that succeeded. */
export type ChildResult = Exclude<ChildMessage, { type: 'progress' | 'warning' | 'gpu-left' | 'failed' }>

/**
 * Runs one request in a new child process, and waits until the process has ended.
 *
 * Aborting kills the child at once. That is safe because its files take effect only by a rename.
 *
 * @throws AppError from the child, or `node_failed` when it died; the reason of `signal`
 */
export async function runInChild(
  request: ChildRequest,
  options: {
    signal?: AbortSignal | undefined
    onProgress?: ((progress: CalibrationProgress) => void) | undefined
    onWarning?: ((message: string) => void) | undefined
    /** Called when the child has freed memory of the GPU, with what the rest of its work takes there at most. */
    onGpuLeft?: ((neededBytes: number) => void) | undefined
    /** Tells from now on whether requests run, until the function that it returns is called. */
    watchTraffic?: ((onChange: (isBusy: boolean) => void) => () => void) | undefined
  } = {},
): Promise<ChildResult> {
  const { signal, onProgress, onWarning, onGpuLeft, watchTraffic } = options
  signal?.throwIfAborted()
  const child = fork(PROGRAM, [], {
    // Supports typed arrays.
    serialization: 'advanced',
    // The child does not inherit the flags of a test runner or debugger.
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const kill = () => void child.kill('SIGKILL')
  signal?.addEventListener('abort', kill, { once: true })
  let endWatch: (() => void) | undefined
  try {
    const end = await new Promise<ChildMessage | AppError>((resolve, reject) => {
      let last: ChildMessage | undefined
      child.on('message', (message: ChildMessage) => {
        if (message.type === 'progress') onProgress?.(message.progress)
        else if (message.type === 'warning') onWarning?.(message.message)
        else if (message.type === 'gpu-left') onGpuLeft?.(message.neededBytes)
        else last = message
      })
      child.once('error', reject)
      child.once('exit', (code, exitSignal) => {
        const how = exitSignal === null ? `with code ${code}` : `by ${exitSignal}`
        resolve(
          last ??
            new AppError(
              'node_failed',
              `The calibration process ended ${how} before it was done. Try again.`,
            ),
        )
      })
      child.send(request, (error) => error && reject(error))
      endWatch = watchTraffic?.((isBusy) => {
        // The end of the child is noticed by its exit.
        if (child.connected) child.send({ kind: 'traffic', isBusy } satisfies TrafficMessage, () => undefined)
      })
    })
    signal?.throwIfAborted()
    if (end instanceof AppError) throw end
    if (end.type === 'failed')
      throw parseErrorBody(end.error) ?? new AppError('internal_error', end.error.error.message)
    if (end.type === 'progress' || end.type === 'warning' || end.type === 'gpu-left')
      throw new RangeError(`${end.type} is not a result`)
    return end
  } finally {
    endWatch?.()
    signal?.removeEventListener('abort', kill)
    kill()
  }
}
