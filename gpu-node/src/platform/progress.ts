/** How far the opening of a model is. */
export interface ModelProgress {
  stage: 'download' | 'verify' | 'convert'
  /** The package, file or model that this stage works on. */
  what: string
  doneBytes: number
  /** `null` until it is known. */
  totalBytes: number | null
  /** At the mean rate of this stage so far; `null` until there is one. */
  secondsLeft: number | null
}

/** Called often, at most a few times a second for one stage; the last call of a stage has all bytes done. */
export type OnModelProgress = (progress: ModelProgress) => void

/** Reports made more often than this are dropped, but for the last. */
const REPORT_INTERVAL_MS = 100

/** Turns byte counts of one stage into progress with the time left. */
export function createProgressReporter(
  onProgress: OnModelProgress | undefined,
  stage: ModelProgress['stage'],
  what: string,
  now: () => number = performance.now.bind(performance),
): (doneBytes: number, totalBytes: number | null) => void {
  const startMs = now()
  let reportedMs = -Infinity
  let reported: { doneBytes: number; totalBytes: number | null } | undefined
  return (doneBytes, totalBytes) => {
    if (onProgress === undefined) return
    if (doneBytes === reported?.doneBytes && totalBytes === reported.totalBytes) return
    const nowMs = now()
    if (nowMs - reportedMs < REPORT_INTERVAL_MS && doneBytes !== totalBytes) return
    reportedMs = nowMs
    reported = { doneBytes, totalBytes }
    const elapsedS = (nowMs - startMs) / 1000
    const secondsLeft =
      totalBytes === null || doneBytes <= 0 || elapsedS <= 0
        ? null
        : (Math.max(0, totalBytes - doneBytes) * elapsedS) / doneBytes
    onProgress({ stage, what, doneBytes, totalBytes, secondsLeft })
  }
}
