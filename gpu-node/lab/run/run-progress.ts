/** The progress of a run, weighted by the estimated seconds of its steps. */
export interface RunProgress {
  /** Starts a step, which ends when the next one starts. Returns a callback for the step's progress, 0 to 1. */
  startStep(seconds: number, label: string): (fraction: number, message: string) => void
}

/**
 * Creates the progress of a run.
 *
 * @param totalSeconds estimate for all steps
 * @param onProgress called with the fraction of the whole run, 0 to 1
 */
export function createRunProgress(
  totalSeconds: number,
  onProgress: (fraction: number, message: string) => void,
): RunProgress {
  let before = 0
  let current = 0
  return {
    startStep(seconds, label) {
      before += current
      current = seconds
      const report = (fraction: number, message: string) =>
        onProgress(
          Math.min(1, (before + fraction * seconds) / Math.max(totalSeconds, 1e-9)),
          `${label}${message}`,
        )
      report(0, '')
      return report
    },
  }
}
