import { expect, test, vi } from 'vitest'
import { A, B, C, faultySwap } from '../../../support/doubles/faulty-swap.ts'
import { WAIT } from '../../../support/harness/wait.ts'

test('masks of single domains are loaded last, as far as they fit, and the least used gives way', async () => {
  // Dense, the active and the previous mask take three, so that one of two masks fits.
  const { swap, events, states, busy } = faultySwap(undefined, { bytes: 400, denseBytes: 100 })
  const own = [
    { ...C, domain: 'code' },
    { version: 4, sha256: 'd'.repeat(64), domain: 'legal' },
  ]
  await swap.start({ active: B, previous: A, own })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready', 3: 'ready' })
  expect(events.filter((event) => event.startsWith('load'))).toEqual(['load 2', 'load 1', 'load 0', 'load 3'])
  expect(swap.maskOf(4)).toBe('d'.repeat(64))
  events.length = 0
  busy.set(3, Promise.withResolvers())
  for (let request = 0; request < 3; request += 1) swap.countUse('legal')
  swap.countUse('unknown')
  swap.converge({ active: B, previous: A, own })
  await vi.waitFor(() => expect(states()).toMatchObject({ 3: 'draining' }), WAIT)
  // Its requests end before the other one takes its memory.
  expect(events).toEqual(['drain 3'])
  busy.get(3)?.resolve()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready', 4: 'ready' }), WAIT)
  expect(events).toEqual(['drain 3', 'release 3', 'load 4'])
})

test('masks of single domains, then dense, give way to canaries that do not fit beside them', async () => {
  const { swap, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  const own = [{ ...C, domain: 'code' }]
  const canary = { version: 9, sha256: '9'.repeat(64) }
  await swap.start({ active: A, previous: B, own })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' })
  swap.converge({ active: A, previous: B, own, trials: [canary] })
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready', 2: 'ready', 9: 'ready' }), WAIT)
  expect(swap.unheld()).toEqual([{ version: 0, bytes: 100 }])
  expect(swap.freeBytes()).toBe(0)
  swap.converge({ active: A, previous: B, own })
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
  expect(swap.unheld()).toEqual([])
})

test('with memory for one set, a swap and a roll-back pack the mask again when it has to serve', async () => {
  const { swap, events, states } = faultySwap(undefined, { bytes: 100, denseBytes: 200 }, () => ({
    bytes: 90,
  }))
  await swap.start({ active: A, previous: null })
  await swap.settled()
  expect(events).toEqual(['load 1', 'activate 1'])
  expect(swap.unheld()).toEqual([{ version: 0, bytes: 200 }])
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(states()).toEqual({ 2: 'ready' }), WAIT)
  swap.converge({ active: A, previous: B })
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready' }), WAIT)
  expect(events.slice(2)).toEqual(
    ['load 2', 'activate 2', 'drain 1', 'release 1'].concat(['load 1', 'activate 1', 'drain 2', 'release 2']),
  )
})

test('a set that turns out too large gives its memory back, and is not loaded again and again', async () => {
  const sizes = [40, 60, 80]
  const { swap, events, states } = faultySwap(undefined, { bytes: 130, denseBytes: 40 }, (version) => ({
    bytes: sizes[version]!,
  }))
  await swap.start({ active: A, previous: A })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
  // The canary is taken for as large as the active mask, which would fit in the place of dense.
  swap.converge({ active: A, previous: A, trials: [B] })
  await vi.waitFor(() => expect(events).toContain('release 2'), WAIT)
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready' }), WAIT)
  await swap.settled()
  expect(events.filter((event) => event.startsWith('load'))).toEqual(['load 1', 'load 0', 'load 2', 'load 0'])
  expect(swap.unheld()).toEqual([{ version: 2, bytes: 80 }])
})

test('a set gives way once to one that is taken for as large as it, although then no mask is held', async () => {
  const sizes = [100, 40, 60]
  const { swap, events, states } = faultySwap(undefined, { bytes: 150, denseBytes: 100 }, (version) => {
    // The two took turns without end once.
    if (events.length > 100) swap.stop()
    return { bytes: sizes[version]! }
  })
  await swap.start({ active: A, previous: null })
  await swap.settled()
  swap.converge({ active: null, previous: B, trials: [A] })
  await swap.settled()
  expect(events.filter((event) => event.startsWith('load'))).toEqual(['load 1', 'load 0', 'load 2', 'load 1'])
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
  expect(swap.unheld()).toEqual([{ version: 2, bytes: 60 }])
})

test('sets that need not serve leave their memory to other work, and are loaded again after it', async () => {
  const { swap, events, states, busy } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' })
  events.length = 0
  busy.set(0, Promise.withResolvers())
  let isFree = false
  const reserving = swap.reserve(100).then((release) => {
    isFree = true
    return release
  })
  await vi.waitFor(() => expect(states()).toMatchObject({ 0: 'draining' }), WAIT)
  expect(isFree).toBe(false)
  busy.get(0)?.resolve()
  const release = await reserving
  expect(events).toEqual(['drain 0', 'release 0'])
  expect(states()).toEqual({ 1: 'ready', 2: 'ready' })
  expect(swap.freeBytes()).toBe(0)
  // A new mask is still loaded beside the active one.
  swap.converge({ active: C, previous: A })
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready', 3: 'ready' }), WAIT)
  expect(swap.activeVersion()).toBe(3)
  release?.()
  release?.()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 3: 'ready' }), WAIT)
})

test('memory that the active set and its successor need is not given to other work', async () => {
  const { swap, events, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  events.length = 0
  expect(await swap.reserve(101)).toBeNull()
  expect(events).toEqual([])
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' })
  // A trial that is not held would fail.
  swap.converge({ active: A, previous: B, trials: [C] })
  await swap.settled()
  expect(await swap.reserve(100)).toBeNull()
  swap.converge({ active: A, previous: B })
  await swap.settled()
  const one = await swap.reserve(60)
  expect(await swap.reserve(60)).toBeNull()
  one?.()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
})

test('other work does without memory that a set does not leave in time', async () => {
  const { swap, busy, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 }, undefined, 30)
  await swap.start({ active: A, previous: B })
  await swap.settled()
  busy.set(0, Promise.withResolvers())
  expect(await swap.reserve(100)).toBeNull()
  expect(states()).toMatchObject({ 0: 'draining' })
  busy.get(0)?.resolve()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
})

test('other work that is cancelled while it waits for memory gives it back at once', async () => {
  const { swap, busy, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  busy.set(0, Promise.withResolvers())
  const cancelling = new AbortController()
  const reserving = swap.reserve(100, cancelling.signal)
  reserving.catch(() => undefined)
  await vi.waitFor(() => expect(states()).toMatchObject({ 0: 'draining' }), WAIT)
  cancelling.abort(new Error('the job was cancelled'))
  await expect(reserving).rejects.toThrow('the job was cancelled')
  busy.get(0)?.resolve()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
  await expect(swap.reserve(100, cancelling.signal)).rejects.toThrow('the job was cancelled')
  expect(swap.freeBytes()).toBe(0)
})

test('other work gives memory back in parts, and never takes more again', async () => {
  const { swap, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  const leave = await swap.reserve(100)
  leave?.(60)
  expect(swap.freeBytes()).toBe(40)
  leave?.(80)
  expect(swap.freeBytes()).toBe(40)
  expect(states()).toEqual({ 1: 'ready', 2: 'ready' })
  leave?.()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
})

test('a trial that finds its memory reserved is loading while it waits for it, and named as one without room', async () => {
  const { swap, events, states } = faultySwap(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  const leave = await swap.reserve(100)
  events.length = 0
  swap.converge({ active: A, previous: B, trials: [C] })
  await swap.settled()
  expect(events).toEqual([])
  expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'loading' })
  expect(swap.unheld()).toEqual([
    { version: 3, bytes: 100 },
    { version: 0, bytes: 100 },
  ])
  leave?.()
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'ready' }), WAIT)
})

test('a trial that has waited half an hour for reserved memory counts as one that does not fit, until it is loaded', async () => {
  let aheadMs = 0
  const nowMs = () => Date.now() + aheadMs
  const memory = { bytes: 300, denseBytes: 100 }
  const { swap, states, log } = faultySwap(undefined, memory, undefined, undefined, nowMs)
  await swap.start({ active: A, previous: B })
  await swap.settled()
  const leave = await swap.reserve(100)
  swap.converge({ active: A, previous: B, trials: [C] })
  expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'loading' })
  aheadMs = 29 * 60_000
  expect(states()).toMatchObject({ 3: 'loading' })
  aheadMs = 31 * 60_000
  expect(states()).toEqual({ 1: 'ready', 2: 'ready' })
  expect(swap.unheld()).toContainEqual({ version: 3, bytes: 100 })
  expect(log.lines.filter((line) => line.includes('has waited too long'))).toHaveLength(1)
  leave?.()
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'ready' }), WAIT)
  expect(swap.unheld()).not.toContainEqual(expect.objectContaining({ version: 3 }))
})

test('memory is reported in whole bytes, as heartbeats take them, where a weight takes a part of a byte', async () => {
  const { swap } = faultySwap(undefined, { bytes: 300, denseBytes: 100.625 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  expect(swap.unheld()).toEqual([{ version: 0, bytes: 101 }])
  expect(swap.freeBytes()).toBe(98)
})

test('every set is told the whole memory for weight sets, so that all choose the same form whatever is held beside them', async () => {
  const { swap, budgets } = faultySwap(undefined, { bytes: 300, denseBytes: 100 }, () => ({ bytes: 100 }))
  await swap.start({ active: A, previous: null })
  swap.converge({ active: B, previous: A })
  await swap.settled()
  expect(Object.fromEntries(budgets)).toEqual({ 0: 300, 1: 300, 2: 300 })
})
