import { onTestFinished } from 'vitest'

/**
 * Stops `Date.now` for the rest of a test, so that no pause of the machine counts. Timers go on.
 *
 * @returns a function that moves the clock forward
 */
export function stopClock(): (ms: number) => void {
  const realNow = Date.now
  let nowMs = realNow()
  Date.now = () => nowMs
  onTestFinished(() => {
    Date.now = realNow
  })
  return (ms) => {
    nowMs += ms
  }
}

/** Moves the clock forward for the rest of a test. It goes on from there. */
export function moveClock(ms: number): void {
  const now = Date.now
  Date.now = () => now() + ms
  onTestFinished(() => {
    Date.now = now
  })
}
