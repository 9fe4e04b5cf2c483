/** What a request waits for at most, each by one alarm. */
export interface Alarms {
  /**
   * Rings once, about so many milliseconds from now.
   *
   * @returns takes it back
   */
  after(ms: number, ring: () => void): () => void
}

interface Alarm {
  atMs: number
  ring: () => void
}

/** Most requests are over by then, and have set one timer. */
const FIRST_LOOK_MS = 1_000

/** The alarms of one request on one timer of the runtime, which costs more than all that is kept here. */
export function createAlarms(nowMs: () => number = Date.now): Alarms {
  const alarms = new Set<Alarm>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let looksAtMs = Infinity

  const look = (): void => {
    looksAtMs = Infinity
    timer = undefined
    const now = nowMs()
    for (const alarm of alarms) {
      if (alarm.atMs > now || !alarms.delete(alarm)) continue
      alarm.ring()
    }
    lookBy(Math.min(...Array.from(alarms, ({ atMs }) => atMs)), now)
  }
  const lookBy = (atMs: number, now: number): void => {
    if (atMs >= looksAtMs) return
    clearTimeout(timer)
    looksAtMs = atMs
    timer = setTimeout(look, Math.max(0, atMs - now))
  }

  return {
    after(ms, ring) {
      const now = nowMs()
      const alarm = { atMs: now + ms, ring }
      lookBy(Math.min(alarm.atMs, alarms.size === 0 ? now + FIRST_LOOK_MS : Infinity), now)
      alarms.add(alarm)
      return () => {
        if (!alarms.delete(alarm) || alarms.size > 0) return
        clearTimeout(timer)
        timer = undefined
        looksAtMs = Infinity
      }
    },
  }
}
