import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { createHangWatch, MAX_IDLE_MS, type HangLimits } from '../../platform/hang-watch.ts'
import { forkReporting } from '../../platform/processor-time.ts'
import type { CalibrationProgress } from './calibration-task.ts'
import type { ChildMessage, ChildRequest, TrafficMessage } from './pruning-child-protocol.ts'

const PROGRAM = new URL('./pruning-child.ts', import.meta.url)
/**
 * When a child that reports nothing counts as hanging. The longest piece of its work is a linear: a refinement of the largest one of
 * 70 billion weights takes one thread two hours.
 */
const LIMITS: HangLimits = { idleMs: MAX_IDLE_MS, workMs: 6 * 3_600_000 }

/** The result of a child that succeeded. */
export type ChildResult = Exclude<
  ChildMessage,
  { type: 'progress' | 'alive' | 'warning' | 'gpu-left' | 'failed' }
>

/**
 * Runs one request in a new child process, and waits until the process has ended.
 *
 * Aborting kills the child at once. That is safe because its files take effect only by a rename.
 *
 * @throws AppError from the child, or `node_failed` when it died or hung; the reason of `signal`
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
    /** For tests. */
    limits?: HangLimits
  } = {},
): Promise<ChildResult> {
  const { signal, onProgress, onWarning, onGpuLeft, watchTraffic, limits = LIMITS } = options
  signal?.throwIfAborted()
  const hung = Promise.withResolvers<AppError>()
  const watch = createHangWatch('threads' in request ? request.threads : 1, (how) => hung.resolve(died(how)))
  const child = forkReporting(PROGRAM, { stderr: 'inherit' }, (processorMs) => watch.used(processorMs))
  const kill = () => void child.kill('SIGKILL')
  signal?.addEventListener('abort', kill, { once: true })
  let endWatch: (() => void) | undefined
  try {
    const end = await new Promise<ChildMessage | AppError>((resolve, reject) => {
      let last: ChildMessage | undefined
      // The end of a process that waits for a device or a disk may never come.
      void hung.promise.then(resolve)
      watch.begin(limits)
      child.on('message', (message: ChildMessage) => {
        watch.begin(limits)
        if (message.type === 'alive') return
        if (message.type === 'progress') onProgress?.(message.progress)
        else if (message.type === 'warning') onWarning?.(message.message)
        else if (message.type === 'gpu-left') onGpuLeft?.(message.neededBytes)
        else last = message
      })
      child.once('error', reject)
      child.once('exit', (code, exitSignal) => {
        const how = exitSignal === null ? `with code ${code}` : `by ${exitSignal}`
        resolve(last ?? died(`ended ${how} before it was done`))
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
    if (end.type === 'progress' || end.type === 'alive' || end.type === 'warning' || end.type === 'gpu-left')
      throw new RangeError(`${end.type} is not a result`)
    return end
  } finally {
    watch.end()
    endWatch?.()
    signal?.removeEventListener('abort', kill)
    kill()
  }
}

function died(how: string): AppError {
  return new AppError('node_failed', `The calibration process ${how}. Try again.`)
}
