/** The timeouts of one request. */
export interface Alarms {
  /**
   * Calls `onDue` once, about `ms` milliseconds from now.
   *
   * @returns a function that cancels the call
   */
  after(ms: number, onDue: () => void): () => void
}

interface Alarm {
  atMs: number
  onDue: () => void
}

/** The delay of the first check. Most requests end before it, and have set only one timer. */
const FIRST_CHECK_MS = 1_000

/** Creates the alarms of one request. They share one timer of the runtime, because a timer is expensive. */
export function createAlarms(nowMs: () => number = Date.now): Alarms {
  const alarms = new Set<Alarm>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let checkAtMs = Infinity

  const check = (): void => {
    checkAtMs = Infinity
    timer = undefined
    const now = nowMs()
    for (const alarm of alarms) {
      if (alarm.atMs > now || !alarms.delete(alarm)) continue
      alarm.onDue()
    }
    checkBy(Math.min(...Array.from(alarms, ({ atMs }) => atMs)), now)
  }
  const checkBy = (atMs: number, now: number): void => {
    if (atMs >= checkAtMs) return
    clearTimeout(timer)
    checkAtMs = atMs
    timer = setTimeout(check, Math.max(0, atMs - now))
  }

  return {
    after(ms, onDue) {
      const now = nowMs()
      const alarm = { atMs: now + ms, onDue }
      checkBy(Math.min(alarm.atMs, alarms.size === 0 ? now + FIRST_CHECK_MS : Infinity), now)
      alarms.add(alarm)
      return () => {
        if (!alarms.delete(alarm) || alarms.size > 0) return
        clearTimeout(timer)
        timer = undefined
        checkAtMs = Infinity
      }
    },
  }
}
