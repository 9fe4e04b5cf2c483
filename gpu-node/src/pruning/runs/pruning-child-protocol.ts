import type { ErrorBody } from '@copal/shared/errors.ts'
import type { CalibrationOutcome, CalibrationProgress, CalibrationTask } from './calibration-task.ts'
import type { TextSource, TextWindows } from '../evaluation/text-windows.ts'

/** How another process opens the same model: the arguments of `openModel`, and what must come out. */
export interface ModelReference {
  spec: string
  cacheDir: string
  id: string
  baseSha256: string
}

/** What a child is asked, once. */
export type ChildRequest =
  | { kind: 'calibrate'; model: ModelReference; task: CalibrationTask; threads: number }
  | {
      kind: 'windows'
      model: ModelReference
      sources: TextSource[]
      windowTokens: number
      maxWindows: number
    }

/** What a child says: progress, and one end. */
export type ChildMessage =
  | { type: 'progress'; progress: CalibrationProgress }
  | { type: 'calibrated'; outcome: CalibrationOutcome }
  | { type: 'windows'; windows: TextWindows[] }
  | { type: 'failed'; error: ErrorBody }
