/** How far a run of many steps is, by the seconds that each was estimated at. */
export interface RunProgress {
  /** Begins a step; what it returns is told how far the step is, 0 to 1. A step ends where the next begins. */
  startStep(seconds: number, label: string): (fraction: number, message: string) => void
}

/**
 * @param totalSeconds of all steps
 * @param onProgress called with the fraction of the whole, 0 to 1
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
