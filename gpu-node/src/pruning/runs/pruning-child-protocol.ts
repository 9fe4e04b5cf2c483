import type { ErrorBody } from '@copal/shared/errors.ts'
import type { CalibrationOutcome, CalibrationProgress, CalibrationTask } from './calibration-task.ts'
import type { NodeGpu } from './choose-device.ts'
import type { TextSource, TextWindows } from '../evaluation/text-windows.ts'

/** The arguments of `openModel` by which another process opens the same model, and the hash of the weights to expect. */
export interface ModelReference {
  spec: string
  cacheDir: string
  id: string
  baseSha256: string
}

/** The one request that a child receives. `share` is that of the time which the work may take while requests run. */
export type ChildRequest =
  | {
      kind: 'calibrate'
      model: ModelReference
      task: CalibrationTask
      threads: number
      share?: number | undefined
      gpu?: NodeGpu | null | undefined
    }
  | {
      kind: 'windows'
      model: ModelReference
      sources: TextSource[]
      windowTokens: number
      maxWindows: number
    }

/** Tells a child whether requests run, which its work yields to. */
export interface TrafficMessage {
  kind: 'traffic'
  isBusy: boolean
}

/**
 * A message of a child: progress, that a piece of its work is done or it waits for its share of the time, a line for the log, what it
 * still needs of the GPU's memory, or its one result.
 */
export type ChildMessage =
  | { type: 'progress'; progress: CalibrationProgress }
  | { type: 'alive' }
  | { type: 'warning'; message: string }
  | { type: 'gpu-left'; neededBytes: number }
  | { type: 'calibrated'; outcome: CalibrationOutcome }
  | { type: 'windows'; windows: TextWindows[] }
  | { type: 'failed'; error: ErrorBody }
