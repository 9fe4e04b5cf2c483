/** Provides components with responses of the admin API that are kept up to date. */
import { createContext, type ComponentChildren } from 'preact'
import { useCallback, useContext, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { Client, Endpoint } from './client.ts'
import { overview, eventsPath } from './endpoints.ts'
import { receiveEvents } from './live-events.ts'
import { loadPages } from './load-pages.ts'
import { useNow } from './now.ts'
import { outOfDate } from './out-of-date.ts'
import type { Resource, Snapshot } from './resource.ts'
import { ResourceStore, type StaleValue } from './resource-store.ts'

interface Data {
  client: Client
  store: ResourceStore
  /** True while events come; else pages fetch by themselves. */
  isLive: boolean
}

/** While events come, the overview is fetched only if they bring nothing of it for so long, milliseconds. */
const EVENTS_MS = 30_000

const DataContext = createContext<Data | undefined>(undefined)

/** Provides {@link useResource} and {@link useClient} to its children, and receives events of a model. */
export function DataProvider({
  client,
  model,
  receivesEvents,
  children,
}: {
  client: Client
  model: string | undefined
  /** False for keys that may not read them. */
  receivesEvents: boolean
  children: ComponentChildren
}) {
  const [isLive, setLive] = useState(false)
  const store = useMemo(
    () =>
      new ResourceStore({
        load: (path) => loadPages(client, path),
        nowMs: Date.now,
        setTimer: (callback, ms) => setTimeout(callback, ms),
        clearTimer: (timer) => clearTimeout(timer as number),
        isVisible: () => !document.hidden,
      }),
    [client],
  )
  useEffect(() => {
    const wake = () => {
      if (!document.hidden) store.wake()
    }
    document.addEventListener('visibilitychange', wake)
    return () => {
      document.removeEventListener('visibilitychange', wake)
      store.clear()
    }
  }, [store])
  useEffect(() => {
    if (!receivesEvents) return undefined
    const { path } = overview(model)
    return receiveEvents(eventsPath(model), ['overview', 'heartbeat'], {
      open: (eventsAt) => new EventSource(eventsAt),
      onEvent: (name, data) => {
        if (name === 'heartbeat') {
          store.touch(path)
          return
        }
        const before = store.read(path).value as OverviewReport | undefined
        store.put(path, data)
        for (const prefix of outOfDate(before, data as OverviewReport)) store.invalidate(prefix)
      },
      onChange: setLive,
      setTimer: (callback, ms) => setTimeout(callback, ms),
      clearTimer: (timer) => clearTimeout(timer as number),
    })
  }, [store, model, receivesEvents])
  const data = useMemo(() => ({ client, store, isLive }), [client, store, isLive])
  return <DataContext.Provider value={data}>{children}</DataContext.Provider>
}

function useData(): Data {
  const data = useContext(DataContext)
  if (!data) throw new Error('Data is used outside of DataProvider.')
  return data
}

const NOT_ASKED: Snapshot = { value: undefined, receivedAtMs: undefined, error: undefined }

/**
 * The response of an endpoint, which is fetched when it is first shown and then every `refreshMs`.
 *
 * @param endpoint `undefined`: nothing is fetched yet
 * @param refreshMs period, milliseconds; `undefined`: it is fetched once
 * @param options.keepsLast shows the response of the last endpoint until the new one responds, so that the page does not jump
 */
export function useResource<T>(
  endpoint: Endpoint<T> | undefined,
  refreshMs?: number,
  { keepsLast = false }: { keepsLast?: boolean } = {},
): Resource<T> {
  const { store } = useData()
  const path = endpoint?.path
  const [, rerender] = useState({})
  useEffect(() => {
    if (path === undefined) return undefined
    const unsubscribe = store.subscribe(path, refreshMs, () => rerender({}))
    rerender({})
    return unsubscribe
  }, [store, path, refreshMs])
  const last = useRef<Snapshot<T>>(undefined)
  const current = (path === undefined ? NOT_ASKED : store.read(path)) as Snapshot<T>
  if (current.value !== undefined) last.current = current
  const isComing = path !== undefined && current.value === undefined && current.error === undefined
  const snapshot = keepsLast && isComing ? (last.current ?? current) : current
  const reload = useCallback(() => {
    if (path !== undefined) store.reload(path)
  }, [store, path])
  return { ...snapshot, reload }
}

/** The overview, which events bring, or which is fetched every 5 s while none come. */
export function useOverview(model: string | undefined): Resource<OverviewReport> {
  return useResource(overview(model), useData().isLive ? EVENTS_MS : 5_000)
}

/** The client, and `refresh`, which fetches paths by their prefixes after a change. */
export function useClient(): Client & { refresh: (...prefixes: string[]) => void } {
  const { client, store } = useData()
  return useMemo(
    () => ({
      ...client,
      refresh: (...prefixes) => {
        for (const prefix of prefixes) store.invalidate(prefix)
      },
    }),
    [client, store],
  )
}

/** The oldest stale value on the page; `undefined` while all are fresh. */
export function useOldestStale(): StaleValue | undefined {
  const { store } = useData()
  useNow(1_000)
  return store.oldestStale()
}
