import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { A, B, C, faultySwap } from '../../../support/doubles/faulty-swap.ts'
import { WAIT } from '../../../support/harness/wait.ts'

test('a node starts on its desired mask, then loads the previous mask, then dense', async () => {
  const { swap, events, live } = faultySwap()
  await swap.start({ active: B, previous: A })
  expect(swap.activeVersion()).toBe(2)
  expect(events.slice(0, 2)).toEqual(['load 2', 'activate 2'])
  await swap.settled()
  expect(events.slice(2)).toEqual(['load 1', 'load 0'])
  expect(live.get(2)?.source).toMatchObject({ maskPath: `/masks/${B.sha256}`, priority: 'serving' })
  expect(live.get(0)?.source.maskPath).toBeNull()
})

test('a node that cannot load dense either reports why and does not start', async () => {
  const { swap, failing } = faultySwap()
  failing.set(0, new AppError('node_failed', 'onnxruntime: out of memory'))
  await expect(swap.start({ active: null, previous: null })).rejects.toThrow('out of memory')
})

test('the old mask drains after two swaps and is released when its requests have ended', async () => {
  const { swap, events, busy, states } = faultySwap()
  await swap.start({ active: A, previous: null })
  busy.set(1, Promise.withResolvers())
  swap.converge({ active: B, previous: A })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' })
  swap.converge({ active: C, previous: B })
  await vi.waitFor(
    () => expect(states()).toEqual({ 0: 'ready', 1: 'draining', 2: 'ready', 3: 'ready' }),
    WAIT,
  )
  expect(swap.activeVersion()).toBe(3)
  busy.get(1)?.resolve()
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 2: 'ready', 3: 'ready' })
  expect(events.filter((event) => event.endsWith(' 1'))).toEqual([
    'load 1',
    'activate 1',
    'drain 1',
    'release 1',
  ])
})

test('a roll-back to the previous mask loads nothing', async () => {
  const { swap, events } = faultySwap()
  await swap.start({ active: A, previous: null })
  swap.converge({ active: B, previous: A })
  await swap.settled()
  events.length = 0
  swap.converge({ active: A, previous: B })
  expect(swap.activeVersion()).toBe(1)
  await swap.settled()
  expect(events).toEqual(['activate 1'])
})

test('a mask that cannot be loaded is reported and retried while the old one serves', async () => {
  const { swap, failing, states } = faultySwap()
  await swap.start({ active: A, previous: null })
  failing.set(2, new AppError('mask_invalid', "tensor 'x' keeps 3 of 8 weights, expected 4"))
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'failed' }), WAIT)
  expect(swap.activeVersion()).toBe(1)
  expect(swap.weightSets()[2]?.error).toContain('keeps 3 of 8 weights')
  failing.delete(2)
  await vi.waitFor(() => expect(swap.activeVersion()).toBe(2), WAIT)
  expect(swap.weightSets()[2]).toEqual({ version: 2, state: 'ready', requests: 0 })
})

test('a mask that cannot be loaded is retried although the clock of the system was set back', async () => {
  const now = Date.now
  let setBackMs = 0
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() - setBackMs)
  onTestFinished(() => clock.mockRestore())
  const { swap, unavailable, states } = faultySwap()
  await swap.start({ active: A, previous: null })
  unavailable.add(B.sha256)
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(states()).toMatchObject({ 2: 'failed' }), WAIT)
  setBackMs = 3_600_000
  unavailable.clear()
  await vi.waitFor(() => expect(swap.activeVersion()).toBe(2), WAIT)
})

test('a mask that failed more than once is reported with its error while it is loaded again', async () => {
  const { swap, failing, hanging, events } = faultySwap()
  await swap.start({ active: A, previous: null })
  failing.set(2, new AppError('mask_invalid', 'no memory'))
  swap.converge({ active: A, previous: null, trials: [B] })
  await vi.waitFor(() => expect(events.filter((event) => event === 'load 2').length).toBeGreaterThan(1), WAIT)
  hanging.add(B.sha256)
  await vi.waitFor(() => expect(swap.weightSets()[2]?.state).toBe('loading'), WAIT)
  expect(swap.weightSets()[2]?.error).toBe('no memory')
})

test('the sets that serve are named with the active one first, and the memory of each is reported', async () => {
  const { swap, failing } = faultySwap({ first: 10_000, max: 10_000 }, undefined, (version) => ({
    bytes: 100 + version,
  }))
  failing.set(1, new AppError('mask_invalid', 'no'))
  await swap.start({ active: B, previous: A })
  await swap.settled()
  expect(swap.readySets().map(({ version }) => version)).toEqual([2, 0])
  expect(swap.weightSets()).toEqual([
    { version: 0, state: 'ready', requests: 0, bytes: 100 },
    { version: 1, state: 'failed', requests: 0, error: 'no' },
    { version: 2, state: 'ready', requests: 0, bytes: 102 },
  ])
})

test('a node starts on dense when the file of its mask is unavailable', async () => {
  const { swap, unavailable, states, events } = faultySwap({ first: 10_000, max: 10_000 })
  unavailable.add(B.sha256)
  await swap.start({ active: B, previous: null })
  expect(states()).toEqual({ 0: 'ready', 2: 'failed' })
  expect(swap.activeVersion()).toBe(0)
  expect(events).not.toContain('load 2')
})

test('a failed mask that is no longer desired is forgotten', async () => {
  const { swap, failing, states } = faultySwap({ first: 10_000, max: 10_000 })
  await swap.start({ active: A, previous: null })
  failing.set(2, new AppError('mask_invalid', 'no'))
  swap.converge({ active: B, previous: A })
  await swap.settled()
  swap.converge({ active: A, previous: null })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
})

test('a crashed active set is loaded again at once and becomes active again', async () => {
  const { swap, crashVersion, activeSet, live, states } = faultySwap({ first: 60_000, max: 600_000 })
  await swap.start({ active: A, previous: null })
  const before = activeSet()
  crashVersion(1)
  await vi.waitFor(() => expect(live.get(1)).toBeDefined(), WAIT)
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
  expect(activeSet()).not.toBe(before)
  expect(activeSet()).toBe(live.get(1))
  expect(swap.activeVersion()).toBe(1)
})

test('a crashed active set that cannot be loaded again fails the requests that wait for it', async () => {
  const { swap, crashVersion, events, failing, states } = faultySwap({ first: 60_000, max: 600_000 })
  await swap.start({ active: A, previous: null })
  await swap.settled()
  events.length = 0
  failing.set(1, new Error('no memory'))
  crashVersion(1)
  await vi.waitFor(() => expect(events).toEqual(['load 1', 'fail without weights: no memory']), WAIT)
  expect(states()).toEqual({ 0: 'ready', 1: 'failed' })
})

test('repeated crashes delay the next load', async () => {
  const { swap, crashVersion, events, live, states } = faultySwap({ first: 60_000, max: 600_000 })
  await swap.start({ active: A, previous: null })
  crashVersion(1)
  await vi.waitFor(() => expect(live.get(1)).toBeDefined(), WAIT)
  await swap.settled()
  events.length = 0
  crashVersion(1)
  await vi.waitFor(() => expect(states()[1]).toBe('failed'), WAIT)
  await swap.settled()
  expect(events).toEqual([])
})

test('a desired state that arrives during a load is applied after it', async () => {
  const { swap, states } = faultySwap()
  await swap.start({ active: null, previous: null })
  swap.converge({ active: A, previous: null })
  swap.converge({ active: C, previous: B })
  await swap.settled()
  await swap.settled()
  expect(swap.activeVersion()).toBe(3)
  expect(states()).toEqual({ 0: 'ready', 2: 'ready', 3: 'ready' })
})

test('a roll-back is immediate while the download of a trial mask stalls', async () => {
  const { swap, events, hanging, states } = faultySwap()
  await swap.start({ active: A, previous: null })
  swap.converge({ active: B, previous: A })
  await swap.settled()
  hanging.add(C.sha256)
  swap.converge({ active: B, previous: A, trials: [C] })
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready', 3: 'loading' })
  events.length = 0
  swap.converge({ active: A, previous: B, trials: [C] })
  expect(swap.activeVersion()).toBe(1)
  expect(events).toEqual(['activate 1'])
  swap.converge({ active: A, previous: B })
  await swap.settled()
  expect(events).toEqual(['activate 1', 'give up c'])
  expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' })
})

test('a download that is no longer desired is cancelled for the desired one', async () => {
  const { swap, events, hanging, states } = faultySwap()
  await swap.start({ active: null, previous: null })
  hanging.add(B.sha256)
  swap.converge({ active: B, previous: null })
  swap.converge({ active: A, previous: null })
  await swap.settled()
  expect(events).toEqual(['load 0', 'activate 0', 'give up b', 'load 1', 'activate 1'])
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
})

test('a load that is no longer desired is cancelled for the desired one, and loaded anew if it is desired again', async () => {
  const { swap, events, stalling, states } = faultySwap()
  await swap.start({ active: A, previous: null })
  await swap.settled()
  stalling.add(2)
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(events).toContain('load 2'), WAIT)
  events.length = 0
  swap.converge({ active: C, previous: A })
  stalling.delete(2)
  swap.converge({ active: C, previous: B })
  await swap.settled()
  await swap.settled()
  expect(events.slice(0, 3)).toEqual(['cancel 2', 'load 3', 'activate 3'])
  expect(states()).toMatchObject({ 2: 'ready', 3: 'ready' })
})

test('closing cancels what loads and leaves the sets that serve', async () => {
  const { swap, events, stalling, live } = faultySwap()
  await swap.start({ active: A, previous: null })
  await swap.settled()
  stalling.add(2)
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(events).toContain('load 2'), WAIT)
  const serving = live.get(1)
  await swap.close()
  expect(events).toContain('cancel 2')
  expect(serving?.source.signal?.aborted).toBe(false)
  expect(live.size).toBe(0)
})

test('closing does not wait for a download', async () => {
  const { swap, hanging, live } = faultySwap()
  await swap.start({ active: null, previous: null })
  hanging.add(A.sha256)
  swap.converge({ active: A, previous: null })
  await swap.close()
  expect(live.size).toBe(0)
})

test('closing releases every set', async () => {
  const { swap, live } = faultySwap()
  await swap.start({ active: B, previous: A })
  await swap.settled()
  expect(live.size).toBe(3)
  await swap.close()
  expect(live.size).toBe(0)
})

test('a swap that was stopped loads and activates nothing, leaves the sets that serve, and logs no failure', async () => {
  const { swap, events, stalling, live, log, closeEngine } = faultySwap()
  await swap.start({ active: A, previous: null })
  await swap.settled()
  stalling.add(2)
  swap.converge({ active: B, previous: A })
  await vi.waitFor(() => expect(events).toContain('load 2'), WAIT)
  swap.stop()
  closeEngine()
  await swap.settled()
  expect(events).toContain('cancel 2')
  const before = [...events]
  swap.converge({ active: null, previous: null })
  await swap.settled()
  expect(events).toEqual(before)
  expect(new Set(live.keys())).toEqual(new Set([0, 1]))
  expect(log.lines.filter((line) => /warn|error/.test(line))).toEqual([])
})
