import { onTestFinished } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { Backend, WeightSet, WeightSetSource } from '../../../gpu-node/src/serving/contract/backend.ts'
import { createMaskSwap, type SwapEngine } from '../../../gpu-node/src/serving/masks/mask-swap.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { reasonOf } from '../../../gpu-node/src/platform/log.ts'
import { memoryLog } from './memory-log.ts'

export const A = { version: 1, sha256: 'a'.repeat(64) }
export const B = { version: 2, sha256: 'b'.repeat(64) }
export const C = { version: 3, sha256: 'c'.repeat(64) }

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
  tokenizer: '',
  tokenizerSha256: '0'.repeat(64),
  layerSensitivity: null,
  rowSensitivity: null,
}

/** Creates a backend whose loads fail and whose sets crash on demand; the real ones have tests of their own. */
function faultyBackend(sizeOf: (version: number) => { bytes?: number }) {
  const events: string[] = []
  const failing = new Map<number, Error>()
  /** Versions whose loads stall until they are cancelled. */
  const stalling = new Set<number>()
  const live = new Map<number, WeightSet>()
  /** The memory for all sets, as each version learned it when it was loaded. */
  const budgets = new Map<number, number | undefined>()
  const ends = new Map<WeightSet, (cause: Error | undefined) => void>()
  const backend: Backend = {
    name: 'faulty',
    async load(source: WeightSetSource) {
      events.push(`load ${source.version}`)
      budgets.set(source.version, source.budgetBytes?.())
      const failure = failing.get(source.version)
      if (failure) throw failure
      if (stalling.has(source.version))
        await new Promise((_, reject) => {
          source.signal?.addEventListener('abort', () => {
            events.push(`cancel ${source.version}`)
            reject(source.signal?.reason as Error)
          })
        })
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
  return { backend, events, failing, stalling, live, budgets, crashVersion }
}

/** Creates a swap of masks whose backend, engine and downloads fail, stall and crash on demand. */
export function faultySwap(
  retryMs = { first: 5, max: 20 },
  memory?: { bytes: number; denseBytes: number },
  sizeOf: (version: number) => { bytes?: number } = () => ({}),
  drainMs?: number,
  nowMs?: () => number,
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
    failWithoutWeights: (cause) => void faulty.events.push(`fail without weights: ${reasonOf(cause)}`),
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
    ...(nowMs === undefined ? {} : { nowMs }),
  })
  onTestFinished(() => swap.close())
  const states = () => Object.fromEntries(swap.weightSets().map(({ version, state }) => [version, state]))
  const closeEngine = () => {
    engineClosed = true
  }
  return { ...faulty, swap, log, busy, unavailable, hanging, states, activeSet: () => activeSet, closeEngine }
}
