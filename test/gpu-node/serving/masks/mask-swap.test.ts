import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type {
  Backend,
  WeightSet,
  WeightSetSource,
} from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createMaskSwap, type SwapEngine } from '../../../../gpu-node/src/serving/masks/mask-swap.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const A = { version: 1, sha256: 'a'.repeat(64) }
const B = { version: 2, sha256: 'b'.repeat(64) }
const C = { version: 3, sha256: 'c'.repeat(64) }

/** An empty model; no test here reads it. */
const MODEL: DenseModel = {
  id: 'tiny',
  config: {
    vocabSize: 0,
    hiddenSize: 0,
    intermediateSize: 0,
    layers: 0,
    heads: 0,
    kvHeads: 0,
    headDim: 0,
    ropeTheta: 0,
    ropeScaling: null,
    rmsNormEps: 0,
    contextLength: 0,
    tiedEmbedding: true,
    bosTokenId: null,
    eosTokenIds: [],
  },
  master: { path: '', tensors: new Map(), baseSha256: '0'.repeat(64) },
  codec: {
    encode: () => [],
    tokenBytes: () => new Uint8Array(),
    isSpecial: () => false,
    encodeDocument: () => [],
    rendersTools: false,
    renderChat: () => '',
  },
  tokenizer: {
    json: { added_tokens: [], model: { type: 'BPE', vocab: {} } },
    chatTemplate: null,
    bosToken: '',
    eosToken: '',
  },
  tokenizerSha256: '0'.repeat(64),
  layerSensitivity: null,
  rowSensitivity: null,
}

/** Creates a backend whose loads fail and whose sets crash on demand; the real ones have tests of their own. */
function faultyBackend(sizeOf: (version: number) => { bytes?: number }) {
  const events: string[] = []
  const failing = new Map<number, Error>()
  const live = new Map<number, WeightSet>()
  const ends = new Map<WeightSet, (cause: Error | undefined) => void>()
  const backend: Backend = {
    name: 'faulty',
    async load(source: WeightSetSource) {
      events.push(`load ${source.version}`)
      const failure = failing.get(source.version)
      if (failure) throw failure
      const { promise, resolve } = Promise.withResolvers<Error | undefined>()
      const { version } = source
      const set: WeightSet = { version, source, paged: false, ended: promise, ...sizeOf(version) }
      live.set(source.version, set)
      ends.set(set, resolve)
      return set
    },
    step: () => Promise.reject(new Error('no steps here')),
    async release(set) {
      events.push(`release ${set.version}`)
      live.delete(set.version)
      ends.get(set)?.(undefined)
    },
  }
  const crashVersion = (version: number) => {
    const set = live.get(version)
    if (!set) throw new Error(`version ${version} is not held`)
    live.delete(version)
    ends.get(set)?.(new AppError('node_failed', 'The process of the weight set ended.'))
  }
  return { backend, events, failing, live, crashVersion }
}

function setup(
  retryMs = { first: 5, max: 20 },
  memory?: { bytes: number; denseBytes: number },
  sizeOf: (version: number) => { bytes?: number } = () => ({}),
  drainMs?: number,
) {
  const faulty = faultyBackend(sizeOf)
  const log = memoryLog()
  const busy = new Map<number, PromiseWithResolvers<void>>()
  let activeSet: WeightSet | undefined
  let engineClosed = false
  const engine: SwapEngine = {
    setActive(set) {
      if (engineClosed) throw new AppError('node_failed', 'This node is shutting down. Try again.')
      activeSet = set
      faulty.events.push(`activate ${set.version}`)
    },
    requestsOn: (version) => (busy.has(version) ? 1 : 0),
    drain: async (version) => {
      faulty.events.push(`drain ${version}`)
      await busy.get(version)?.promise
    },
  }
  const unavailable = new Set<string>()
  /** Masks whose downloads stall until they are cancelled. */
  const hanging = new Set<string>()
  const swap = createMaskSwap({
    model: MODEL,
    backend: faulty.backend,
    engine,
    masks: {
      async ensure(sha256, signal) {
        if (hanging.has(sha256))
          await new Promise((_, reject) => {
            signal?.addEventListener('abort', () => {
              faulty.events.push(`give up ${sha256[0]}`)
              reject(signal.reason as Error)
            })
          })
        if (unavailable.has(sha256)) throw new AppError('mask_invalid', 'The mask file was damaged.')
        return `/masks/${sha256}`
      },
    },
    log,
    onChange: () => {},
    retryMs,
    ...(memory ? { memory } : {}),
    ...(drainMs === undefined ? {} : { drainMs }),
  })
  onTestFinished(() => swap.close())
  const states = () => Object.fromEntries(swap.weightSets().map(({ version, state }) => [version, state]))
  const closeEngine = () => {
    engineClosed = true
  }
  return { ...faulty, swap, log, busy, unavailable, hanging, states, activeSet: () => activeSet, closeEngine }
}

test('a node starts on its desired mask, then loads the previous mask, then dense', async () => {
  const { swap, events, live } = setup()
  await swap.start({ active: B, previous: A })
  expect(swap.activeVersion()).toBe(2)
  expect(events.slice(0, 2)).toEqual(['load 2', 'activate 2'])
  await swap.settled()
  expect(events.slice(2)).toEqual(['load 1', 'load 0'])
  expect(live.get(2)?.source).toMatchObject({ maskPath: `/masks/${B.sha256}`, priority: 'serving' })
  expect(live.get(0)?.source.maskPath).toBeNull()
})

test('masks of single domains are loaded last, as far as they fit, and the least used gives way', async () => {
  // Dense, the active and the previous mask take three, so that one of two masks fits.
  const { swap, events, states, busy } = setup(undefined, { bytes: 400, denseBytes: 100 })
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
  const { swap, states } = setup(undefined, { bytes: 300, denseBytes: 100 })
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
  const { swap, events, states } = setup(undefined, { bytes: 100, denseBytes: 200 }, () => ({ bytes: 90 }))
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
  const { swap, events, states } = setup(undefined, { bytes: 130, denseBytes: 40 }, (version) => ({
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

test('sets that need not serve leave their memory to other work, and are loaded again after it', async () => {
  const { swap, events, states, busy } = setup(undefined, { bytes: 300, denseBytes: 100 })
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
  const { swap, events, states } = setup(undefined, { bytes: 300, denseBytes: 100 })
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
  const { swap, busy, states } = setup(undefined, { bytes: 300, denseBytes: 100 }, undefined, 30)
  await swap.start({ active: A, previous: B })
  await swap.settled()
  busy.set(0, Promise.withResolvers())
  expect(await swap.reserve(100)).toBeNull()
  expect(states()).toMatchObject({ 0: 'draining' })
  busy.get(0)?.resolve()
  await vi.waitFor(() => expect(states()).toEqual({ 0: 'ready', 1: 'ready', 2: 'ready' }), WAIT)
})

test('other work that is cancelled while it waits for memory gives it back at once', async () => {
  const { swap, busy, states } = setup(undefined, { bytes: 300, denseBytes: 100 })
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
  const { swap, states } = setup(undefined, { bytes: 300, denseBytes: 100 })
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

test('a trial that finds its memory reserved waits for it, and is not called unable to fit', async () => {
  const { swap, events, states } = setup(undefined, { bytes: 300, denseBytes: 100 })
  await swap.start({ active: A, previous: B })
  await swap.settled()
  const leave = await swap.reserve(100)
  events.length = 0
  swap.converge({ active: A, previous: B, trials: [C] })
  await swap.settled()
  expect(events).toEqual([])
  expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'loading' })
  expect(swap.unheld()).toEqual([{ version: 0, bytes: 100 }])
  leave?.()
  await vi.waitFor(() => expect(states()).toEqual({ 1: 'ready', 2: 'ready', 3: 'ready' }), WAIT)
})

test('a node that cannot load dense either reports why and does not start', async () => {
  const { swap, failing } = setup()
  failing.set(0, new AppError('node_failed', 'onnxruntime: out of memory'))
  await expect(swap.start({ active: null, previous: null })).rejects.toThrow('out of memory')
})

test('the old mask drains after two swaps and is released when its requests have ended', async () => {
  const { swap, events, busy, states } = setup()
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
  const { swap, events } = setup()
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
  const { swap, failing, states } = setup()
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

test('a mask that failed more than once is reported with its error while it is loaded again', async () => {
  const { swap, failing, hanging, events } = setup()
  await swap.start({ active: A, previous: null })
  failing.set(2, new AppError('mask_invalid', 'no memory'))
  swap.converge({ active: A, previous: null, trials: [B] })
  await vi.waitFor(() => expect(events.filter((event) => event === 'load 2').length).toBeGreaterThan(1), WAIT)
  hanging.add(B.sha256)
  await vi.waitFor(() => expect(swap.weightSets()[2]?.state).toBe('loading'), WAIT)
  expect(swap.weightSets()[2]?.error).toBe('no memory')
})

test('the sets that serve are named with the active one first, and the memory of each is reported', async () => {
  const { swap, failing } = setup({ first: 10_000, max: 10_000 }, undefined, (version) => ({
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
  const { swap, unavailable, states, events } = setup({ first: 10_000, max: 10_000 })
  unavailable.add(B.sha256)
  await swap.start({ active: B, previous: null })
  expect(states()).toEqual({ 0: 'ready', 2: 'failed' })
  expect(swap.activeVersion()).toBe(0)
  expect(events).not.toContain('load 2')
})

test('a failed mask that is no longer desired is forgotten', async () => {
  const { swap, failing, states } = setup({ first: 10_000, max: 10_000 })
  await swap.start({ active: A, previous: null })
  failing.set(2, new AppError('mask_invalid', 'no'))
  swap.converge({ active: B, previous: A })
  await swap.settled()
  swap.converge({ active: A, previous: null })
  await swap.settled()
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
})

test('a crashed active set is loaded again at once and becomes active again', async () => {
  const { swap, crashVersion, activeSet, live, states } = setup({ first: 60_000, max: 600_000 })
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

test('repeated crashes delay the next load', async () => {
  const { swap, crashVersion, events, live, states } = setup({ first: 60_000, max: 600_000 })
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
  const { swap, states } = setup()
  await swap.start({ active: null, previous: null })
  swap.converge({ active: A, previous: null })
  swap.converge({ active: C, previous: B })
  await swap.settled()
  await swap.settled()
  expect(swap.activeVersion()).toBe(3)
  expect(states()).toEqual({ 0: 'ready', 2: 'ready', 3: 'ready' })
})

test('a roll-back is immediate while the download of a trial mask stalls', async () => {
  const { swap, events, hanging, states } = setup()
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
  const { swap, events, hanging, states } = setup()
  await swap.start({ active: null, previous: null })
  hanging.add(B.sha256)
  swap.converge({ active: B, previous: null })
  swap.converge({ active: A, previous: null })
  await swap.settled()
  expect(events).toEqual(['load 0', 'activate 0', 'give up b', 'load 1', 'activate 1'])
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
})

test('closing does not wait for a download', async () => {
  const { swap, hanging, live } = setup()
  await swap.start({ active: null, previous: null })
  hanging.add(A.sha256)
  swap.converge({ active: A, previous: null })
  await swap.close()
  expect(live.size).toBe(0)
})

test('closing releases every set', async () => {
  const { swap, live } = setup()
  await swap.start({ active: B, previous: A })
  await swap.settled()
  expect(live.size).toBe(3)
  await swap.close()
  expect(live.size).toBe(0)
})

test('a mask that becomes ready while the node stops is not activated, without an error', async () => {
  const { swap, states, log, closeEngine } = setup()
  await swap.start({ active: null, previous: null })
  await swap.settled()
  closeEngine()
  swap.converge({ active: A, previous: null })
  await swap.settled()
  expect(swap.activeVersion()).toBe(0)
  expect(states()).toEqual({ 0: 'ready', 1: 'ready' })
  expect(log.lines.join()).toContain('shutting down')
})
