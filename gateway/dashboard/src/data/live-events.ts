/** Server-sent events of `GET /admin/events`, with another connection when one breaks or falls silent. */

/** The part of an EventSource that is used. */
export interface EventConnection {
  addEventListener: (type: string, listener: (event: { data?: unknown }) => void) => void
  close: () => void
}

/** Dependencies of {@link receiveEvents}. */
export interface LiveEventsDeps {
  open: (path: string) => EventConnection
  /** Receives the data of each named event. */
  onEvent: (name: string, data: unknown) => void
  /** Called when events begin to come, and when they cease. */
  onChange: (isLive: boolean) => void
  setTimer: (callback: () => void, ms: number) => unknown
  clearTimer: (timer: unknown) => void
}

/** A connection that is silent for longer is broken, milliseconds: the gateway sends a heartbeat every 10 s. */
const SILENCE_MS = 20_000
const MAX_RETRY_MS = 30_000

/**
 * Receives events until the returned function is called. While they do not come, pages fetch by themselves.
 *
 * @param names names of the events to receive
 */
export function receiveEvents(path: string, names: readonly string[], deps: LiveEventsDeps): () => void {
  let connection: EventConnection | undefined
  let timer: unknown
  let isLive = false
  let failures = 0

  function setLive(next: boolean): void {
    if (isLive === next) return
    isLive = next
    deps.onChange(next)
  }

  function watchSilence(): void {
    deps.clearTimer(timer)
    timer = deps.setTimer(restart, SILENCE_MS)
  }

  function heard(): void {
    failures = 0
    setLive(true)
    watchSilence()
  }

  function restart(): void {
    connection?.close()
    connection = undefined
    setLive(false)
    deps.clearTimer(timer)
    timer = deps.setTimer(connect, Math.min(MAX_RETRY_MS, 1_000 * 2 ** failures++))
  }

  function connect(): void {
    const opened = deps.open(path)
    connection = opened
    const ifCurrent = (handle: () => void) => () => {
      if (connection === opened) handle()
    }
    for (const name of names) {
      opened.addEventListener(name, ({ data }) => {
        if (connection !== opened) return
        heard()
        if (typeof data === 'string') deps.onEvent(name, JSON.parse(data))
      })
    }
    // The gateway ends each stream after a while: the values are still fresh.
    const follow = () => {
      opened.close()
      connect()
    }
    opened.addEventListener('end', ifCurrent(follow))
    opened.addEventListener('open', ifCurrent(watchSilence))
    opened.addEventListener('error', ifCurrent(restart))
    watchSilence()
  }

  connect()
  return () => {
    const last = connection
    connection = undefined
    last?.close()
    deps.clearTimer(timer)
    setLive(false)
  }
}
