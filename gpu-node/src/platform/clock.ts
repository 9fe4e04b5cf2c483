/**
 * Returns milliseconds by a clock that only moves forward, for durations and deadlines.
 *
 * It began with the Unix time when the process started. It does not follow the clock of the system when that is set, and stands
 * still while the machine sleeps, so it must not be compared with the times of other machines: `Date.now()` is for that.
 */
export function monotonicMs(): number {
  return performance.timeOrigin + performance.now()
}

/** Returns what makes a time of {@link monotonicMs} Unix time by the present clock of the system, when it is added. */
export function unixOffsetMs(): number {
  return Date.now() - monotonicMs()
}
