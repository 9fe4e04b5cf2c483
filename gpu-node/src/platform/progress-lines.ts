import type { OnModelProgress } from './progress.ts'

/** Formats progress as lines: one when a stage begins and one for each tenth of it. */
export function createProgressLines(write: (line: string) => void): OnModelProgress {
  let last = ''
  return ({ stage, what, doneBytes, totalBytes, secondsLeft }) => {
    const tenth = totalBytes ? Math.floor((10 * doneBytes) / totalBytes) : 0
    const step = `${stage} ${what} ${tenth}`
    if (step === last) return
    last = step
    const done = totalBytes ? `${tenth * 10} % of ${megabytes(totalBytes)}` : megabytes(doneBytes)
    const left = secondsLeft === null || secondsLeft < 1 ? '' : `, about ${Math.ceil(secondsLeft)} s left`
    write(`${stage} ${what}: ${done}${left}`)
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
