/** Responses by path, shared by everything on the page that shows them. */
import type { ApiError } from './client.ts'
import { toApiError } from './client.ts'
import { isStale, retryDelayMs, type Snapshot } from './resource.ts'

/** A value that is older than it should be. */
export interface StaleValue {
  /** When it came, milliseconds. */
  sinceMs: number
  /** Why the last attempt to fetch it failed; `undefined` while none has. */
  reason: string | undefined
}

/** Dependencies of a store; the timers are the browser's outside tests. */
export interface StoreDeps {
  load: (path: string) => Promise<unknown>
  nowMs: () => number
  setTimer: (callback: () => void, ms: number) => unknown
  clearTimer: (timer: unknown) => void
  /** Nothing is fetched by itself while the page is not visible. */
  isVisible: () => boolean
}

interface Subscriber {
  listener: () => void
  /** Period, milliseconds; `undefined`: once. */
  refreshMs: number | undefined
}

interface Entry {
  snapshot: Snapshot
  subscribers: Set<Subscriber>
  timer: unknown
  /** The load that runs; a value that is put meanwhile makes it void. */
  loading: object | undefined
  failures: number
}

const NOTHING: Snapshot = { value: undefined, receivedAtMs: undefined, error: undefined }
/** Maximum number of paths. Values that are not shown are kept, so that going back shows them at once; the oldest go first. */
const MAX_ENTRIES = 64

/** Holds the last response of each path, fetches it again while it is shown, and tells those that show it. */
export class ResourceStore {
  readonly #deps: StoreDeps
  readonly #entries = new Map<string, Entry>()

  constructor(deps: StoreDeps) {
    this.#deps = deps
  }

  /** The last response of a path. The same object until it changes. */
  read(path: string): Snapshot {
    return this.#entries.get(path)?.snapshot ?? NOTHING
  }

  /**
   * Keeps a path up to date until the returned function is called.
   *
   * @param refreshMs period, milliseconds; `undefined`: it is fetched once
   */
  subscribe(path: string, refreshMs: number | undefined, listener: () => void): () => void {
    const entry = this.#entry(path)
    const subscriber = { listener, refreshMs }
    entry.subscribers.add(subscriber)
    this.#schedule(path, entry)
    return () => {
      entry.subscribers.delete(subscriber)
      if (entry.subscribers.size > 0) return
      this.#deps.clearTimer(entry.timer)
      entry.timer = undefined
      this.#forgetOldest()
    }
  }

  /** Sets a value that came another way, such as by an event. */
  put(path: string, value: unknown): void {
    const entry = this.#entry(path)
    entry.loading = undefined
    this.#succeed(path, entry, value)
  }

  /** Takes note that the value of a path still holds. */
  touch(path: string): void {
    const entry = this.#entries.get(path)
    if (!entry || entry.snapshot.receivedAtMs === undefined) return
    const wasFailing = entry.snapshot.error !== undefined
    entry.snapshot = { ...entry.snapshot, receivedAtMs: this.#deps.nowMs(), error: undefined }
    entry.failures = 0
    if (wasFailing) this.#changed(path, entry)
  }

  /** Fetches a path now. */
  reload(path: string): void {
    const entry = this.#entry(path)
    if (entry.loading) return
    const loading = {}
    entry.loading = loading
    this.#deps.load(path).then(
      (value) => {
        if (entry.loading !== loading) return
        entry.loading = undefined
        this.#succeed(path, entry, value)
      },
      (cause: unknown) => {
        if (entry.loading !== loading) return
        entry.loading = undefined
        this.#fail(path, entry, toApiError(cause))
      },
    )
  }

  /** Fetches every path that is shown and starts with `prefix`, and forgets the others that do: something was changed. */
  invalidate(prefix: string): void {
    for (const [path, entry] of this.#entries) {
      if (!path.startsWith(prefix)) continue
      if (entry.subscribers.size === 0) this.#entries.delete(path)
      else {
        entry.loading = undefined
        this.reload(path)
      }
    }
  }

  /** Fetches due paths, after the page was not visible. */
  wake(): void {
    for (const [path, entry] of this.#entries) {
      if (entry.subscribers.size > 0) this.#schedule(path, entry)
    }
  }

  /** The oldest of the stale values that are shown; `undefined` if none is stale. */
  oldestStale(): StaleValue | undefined {
    const stale = [...this.#entries.values()].flatMap(({ snapshot, subscribers }) => {
      const { receivedAtMs: sinceMs, error } = snapshot
      if (subscribers.size === 0 || sinceMs === undefined) return []
      const isOld = isStale(snapshot, shortestPeriod(subscribers), this.#deps.nowMs())
      return isOld ? [{ sinceMs, reason: error?.message }] : []
    })
    return stale.toSorted((a, b) => a.sinceMs - b.sinceMs)[0]
  }

  /** Forgets everything, at sign-out. */
  clear(): void {
    for (const entry of this.#entries.values()) {
      this.#deps.clearTimer(entry.timer)
      entry.loading = undefined
    }
    this.#entries.clear()
  }

  #entry(path: string): Entry {
    const known = this.#entries.get(path)
    if (known) return known
    const entry: Entry = {
      snapshot: NOTHING,
      subscribers: new Set(),
      timer: undefined,
      loading: undefined,
      failures: 0,
    }
    this.#entries.set(path, entry)
    return entry
  }

  #succeed(path: string, entry: Entry, value: unknown): void {
    entry.failures = 0
    entry.snapshot = { value, receivedAtMs: this.#deps.nowMs(), error: undefined }
    this.#changed(path, entry)
  }

  #fail(path: string, entry: Entry, error: ApiError): void {
    entry.failures++
    entry.snapshot = { ...entry.snapshot, error }
    this.#changed(path, entry)
  }

  #changed(path: string, entry: Entry): void {
    for (const { listener } of entry.subscribers) listener()
    this.#schedule(path, entry)
  }

  /** Sets the timer of the next fetch of an entry that is shown. */
  #schedule(path: string, entry: Entry): void {
    this.#deps.clearTimer(entry.timer)
    entry.timer = undefined
    if (entry.subscribers.size === 0 || entry.loading) return
    const delayMs = this.#delayMs(entry)
    if (delayMs === undefined) return
    if (delayMs <= 0) this.reload(path)
    else {
      entry.timer = this.#deps.setTimer(() => {
        entry.timer = undefined
        if (this.#deps.isVisible()) this.reload(path)
      }, delayMs)
    }
  }

  /** Milliseconds until the next fetch; `undefined`: none is due. */
  #delayMs({ snapshot, subscribers, failures }: Entry): number | undefined {
    if (snapshot.error) return retryDelayMs(snapshot.error, failures)
    if (snapshot.receivedAtMs === undefined) return 0
    const periodMs = shortestPeriod(subscribers)
    const ageMs = this.#deps.nowMs() - snapshot.receivedAtMs
    return periodMs === undefined ? undefined : Math.max(0, periodMs - ageMs)
  }

  #forgetOldest(): void {
    for (const [path, entry] of this.#entries) {
      if (this.#entries.size <= MAX_ENTRIES) return
      if (entry.subscribers.size === 0) this.#entries.delete(path)
    }
  }
}

/** The shortest period in which a path is fetched, milliseconds; `undefined`: it is fetched once. */
function shortestPeriod(subscribers: ReadonlySet<Subscriber>): number | undefined {
  const periods = [...subscribers].flatMap(({ refreshMs }) => (refreshMs === undefined ? [] : [refreshMs]))
  return periods.length > 0 ? Math.min(...periods) : undefined
}
