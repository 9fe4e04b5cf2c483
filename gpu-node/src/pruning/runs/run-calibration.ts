import { availableParallelism } from 'node:os'
import type { CalibrationOutcome, CalibrationProgress, CalibrationTask } from './calibration-task.ts'
import type { ModelReference } from './pruning-child-protocol.ts'
import { runInChild } from './run-in-child.ts'

/** A calibration as the node starts it. */
export interface CalibrationOptions extends CalibrationTask {
  model: ModelReference
  /** Threads of the forward pass; all processors unless given, which yield to serving by priority. */
  threads?: number | undefined
  onProgress?: ((progress: CalibrationProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

/**
 * Calibrates, selects and writes a mask in a child process of low priority: the event loop only passes
 * messages. The same task gives the same bytes; statistics on disk are not computed again; aborted, or killed
 * at any point, it leaves nothing that could be taken for a result, and a later run goes on at the first
 * block that was not finished.
 *
 * @throws AppError `insufficient_samples`, `invalid_request`, `mask_invalid`, `unsupported_model`, or
 * `node_failed` when the process died; the reason of `signal`
 */
export async function runCalibration(options: CalibrationOptions): Promise<CalibrationOutcome> {
  const { model, threads, onProgress, signal, ...task } = options
  const request = { kind: 'calibrate', model, task, threads: threads ?? availableParallelism() } as const
  const startedMs = performance.now()
  let first: number | undefined
  const result = await runInChild(request, {
    signal,
    onProgress: ({ fraction, message }) => {
      // What was on disk cost no time, so the estimate counts from the first report.
      first ??= fraction
      const done = fraction - first
      const remainingS = ((performance.now() - startedMs) / 1000) * ((1 - fraction) / done)
      onProgress?.({
        fraction,
        message: done > 0.02 ? `${message}, about ${Math.ceil(remainingS)} s left` : message,
      })
    },
  })
  if (result.type !== 'calibrated') throw new RangeError(`the child answered ${result.type}`)
  return result.outcome
}
