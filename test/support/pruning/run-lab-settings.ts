import type { LabSettings } from '../../../gpu-node/lab/plan/lab-settings.ts'
import { runLab, type LabOutcome } from '../../../gpu-node/lab/run/run-lab.ts'

/** Runs the laboratory, until `abort` is aborted. */
export function runLabSettings(
  settings: LabSettings,
  abort = new AbortController(),
  onProgress?: (message: string, fraction: number, label: string) => void,
): Promise<LabOutcome> {
  return runLab(settings, {
    signal: abort.signal,
    onProgress: (label, fraction, message) => onProgress?.(message, fraction, label),
  })
}
