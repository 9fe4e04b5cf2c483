import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import type { CalibrationOutcome, CalibrationProgress, CalibrationTask } from './calibration-task.ts'
import type { NodeGpu } from './choose-device.ts'
import type { ModelReference } from './pruning-child-protocol.ts'
import { runInChild } from './run-in-child.ts'

/** Options of {@link runCalibration}. */
export interface CalibrationOptions extends CalibrationTask {
  model: ModelReference
  /** Number of threads; default one per processor. They have a lower priority than serving. */
  threads?: number | undefined
  /** Share of the time that the work takes while requests run; default 1. */
  share?: number | undefined
  /** The GPU that takes its part of the work; by default the processor does everything. */
  gpu?: NodeGpu | null | undefined
  /** Tells whether requests run, until the function that it returns is called; by default none do. */
  watchTraffic?: ((onChange: (isBusy: boolean) => void) => () => void) | undefined
  onProgress?: ((progress: CalibrationProgress) => void) | undefined
  /** Called with what an operator should know. */
  onWarning?: ((message: string) => void) | undefined
  /**
   * Called when memory of the GPU was freed, with the bytes that the rest of the work takes there at most: after the calibration,
   * and with 0 when the processor takes over. May be called more than once, and with more than before.
   */
  onGpuLeft?: ((neededBytes: number) => void) | undefined
  signal?: AbortSignal | undefined
}

/**
 * Calibrates, selects and writes a mask in a child process of low priority.
 *
 * The same task gives the same bytes on the same device. Statistics on disk are not computed again. When it is aborted or
 * killed at any point, it leaves nothing that looks like a result, and a later run continues at the first unfinished block.
 * If the process dies that uses a GPU, another one goes on without it.
 *
 * @throws AppError `insufficient_samples`, `invalid_request`, `mask_invalid`, `unsupported_model`, or `node_failed` when the
 * process died; the reason of `signal`
 */
export async function runCalibration(options: CalibrationOptions): Promise<CalibrationOutcome> {
  const { model, threads, share, gpu = null, watchTraffic, onProgress, ...others } = options
  const { onWarning, onGpuLeft, signal, ...task } = others
  const request = {
    kind: 'calibrate',
    model,
    task,
    threads: threads ?? availableParallelism(),
    share,
  } as const
  const startedMs = performance.now()
  let first: number | undefined
  const runOn = (device: NodeGpu | null) =>
    runInChild(
      { ...request, gpu: device },
      {
        signal,
        watchTraffic,
        onWarning,
        onGpuLeft,
        onProgress: ({ fraction, message }) => {
          // Statistics found on disk took no time, so the estimate starts at the first report.
          first ??= fraction
          const done = fraction - first
          const remainingS = ((performance.now() - startedMs) / 1000) * ((1 - fraction) / done)
          onProgress?.({
            fraction,
            message: done > 0.02 ? `${message}, about ${Math.ceil(remainingS)} s left` : message,
          })
        },
      },
    )
  const result = await runOn(gpu).catch((error: unknown) => {
    // A driver's fault can end the process that uses it, and would end the next one too.
    if (gpu === null || !(error instanceof AppError) || error.code !== 'node_failed') throw error
    onWarning?.(`the GPU cannot go on with this update, so the processor does: ${error.message}`)
    onGpuLeft?.(0)
    return runOn(null)
  })
  if (result.type !== 'calibrated')
    throw new RangeError(`the child returned ${result.type} instead of a mask`)
  return result.outcome
}
