import type { OnModelProgress } from './progress.ts'

/** Progress as lines for people: one when a stage begins and one each tenth of the way. */
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
