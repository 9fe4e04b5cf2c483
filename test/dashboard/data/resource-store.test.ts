import { expect, test } from 'vitest'
import { ApiError } from '../../../gateway/dashboard/src/data/client.ts'
import { isStale, retryDelayMs, stateOf } from '../../../gateway/dashboard/src/data/resource.ts'
import { ResourceStore } from '../../../gateway/dashboard/src/data/resource-store.ts'

/** A store with a clock that is moved by hand, and responses that are given by hand. */
function storeWithClock() {
  let nowMs = 0
  let isVisible = true
  const timers = new Map<object, { atMs: number; callback: () => void }>()
  const loads: { path: string; resolve: (value: unknown) => void; reject: (error: unknown) => void }[] = []
  const store = new ResourceStore({
    load: (path) => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>()
      loads.push({ path, resolve, reject })
      return promise
    },
    nowMs: () => nowMs,
    setTimer: (callback, ms) => {
      const timer = {}
      timers.set(timer, { atMs: nowMs + ms, callback })
      return timer
    },
    clearTimer: (timer) => {
      if (typeof timer === 'object' && timer !== null) timers.delete(timer)
    },
    isVisible: () => isVisible,
  })
  return {
    store,
    loads,
    show: (visible: boolean) => {
      isVisible = visible
    },
    wait: (ms: number) => {
      nowMs += ms
      for (const [timer, { atMs, callback }] of timers) {
        if (atMs > nowMs) continue
        timers.delete(timer)
        callback()
      }
    },
    settle: async (value: unknown) => {
      const load = loads.at(-1)
      if (value instanceof Error) load?.reject(value)
      else load?.resolve(value)
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
}

const unreachable = new ApiError('gone', 0, 'unreachable')

test('a path is fetched when it is shown, then every period, and not any more when it is hidden', async () => {
  const { store, loads, wait, settle } = storeWithClock()
  let changes = 0
  const hide = store.subscribe('/a', 1_000, () => changes++)
  expect(loads).toHaveLength(1)
  await settle(1)
  expect([store.read('/a').value, changes]).toEqual([1, 1])
  wait(999)
  expect(loads).toHaveLength(1)
  wait(1)
  expect(loads).toHaveLength(2)
  await settle(2)
  hide()
  wait(10_000)
  expect(loads).toHaveLength(2)
})

test('what two parts of a page show is fetched once', () => {
  const { store, loads } = storeWithClock()
  store.subscribe('/a', undefined, () => {})
  store.subscribe('/a', 1_000, () => {})
  expect(loads).toHaveLength(1)
})

test('the last value stays while later attempts fail, which wait longer and longer', async () => {
  const { store, loads, wait, settle } = storeWithClock()
  store.subscribe('/a', 1_000, () => {})
  await settle('old')
  wait(1_000)
  await settle(unreachable)
  expect(store.read('/a')).toMatchObject({ value: 'old', error: unreachable, receivedAtMs: 0 })
  expect(store.oldestStale()).toEqual({ sinceMs: 0, reason: unreachable.message })
  wait(1_000)
  await settle(unreachable)
  wait(1_999)
  expect(loads).toHaveLength(3)
  wait(1)
  await settle('new')
  expect(store.read('/a')).toMatchObject({ value: 'new', error: undefined })
  expect(store.oldestStale()).toBeUndefined()
})

test('what this key may not see is not tried again', async () => {
  const { store, loads, wait, settle } = storeWithClock()
  store.subscribe('/a', 1_000, () => {})
  await settle(new ApiError('no', 403, 'insufficient_permissions'))
  wait(100_000)
  expect(loads).toHaveLength(1)
})

test('a value that an event brings is not overwritten by a response that was asked for before', async () => {
  const { store, settle } = storeWithClock()
  store.subscribe('/a', undefined, () => {})
  store.put('/a', 'event')
  await settle('older response')
  expect(store.read('/a').value).toBe('event')
})

test('a page that is not visible fetches nothing until it is', async () => {
  const { store, loads, show, wait, settle } = storeWithClock()
  store.subscribe('/a', 1_000, () => {})
  await settle(1)
  show(false)
  wait(60_000)
  expect(loads).toHaveLength(1)
  show(true)
  store.wake()
  expect(loads).toHaveLength(2)
})

test('a change fetches what is shown and forgets the rest', async () => {
  const { store, loads, settle } = storeWithClock()
  store.subscribe('/admin/updates', undefined, () => {})
  await settle(1)
  store.put('/admin/updates/x', 2)
  store.put('/admin/masks', 3)
  store.invalidate('/admin/updates')
  expect(loads.map(({ path }) => path)).toEqual(['/admin/updates', '/admin/updates'])
  expect([store.read('/admin/updates/x').value, store.read('/admin/masks').value]).toEqual([undefined, 3])
})

test('a heartbeat keeps a value fresh', async () => {
  const { store, wait, settle } = storeWithClock()
  store.subscribe('/a', 5_000, () => {})
  await settle(1)
  wait(4_000)
  store.touch('/a')
  expect(store.read('/a')).toMatchObject({ value: 1, receivedAtMs: 4_000 })
})

test('states are told apart', () => {
  const forbidden = new ApiError('no', 403, 'x')
  expect(stateOf({ value: undefined, error: undefined })).toBe('loading')
  expect(stateOf({ value: undefined, error: unreachable })).toBe('failing')
  expect(stateOf({ value: 1, error: unreachable })).toBe('ready')
  expect(stateOf({ value: undefined, error: forbidden })).toBe('forbidden')
  const old = { value: 1, error: undefined, receivedAtMs: 0 }
  expect([isStale(old, 5_000, 15_000), isStale(old, 5_000, 15_001), isStale(old, undefined, 1e9)]).toEqual([
    false,
    true,
    false,
  ])
  expect([1, 2, 10].map((failures) => retryDelayMs(unreachable, failures))).toEqual([1_000, 2_000, 30_000])
  expect(retryDelayMs(forbidden, 1)).toBeUndefined()
})
