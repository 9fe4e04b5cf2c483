import { toAppError } from '@copal/shared/errors.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { SwapObserver } from '../contract/observers.ts'
import type { MaskStore } from './mask-store.ts'
import type { HeldWeightSet, WeightSetName } from './swap-plan.ts'

/** A weight set of a node: its weights once they are loaded, and how its loads went. */
export interface SwapSet extends HeldWeightSet {
  weights: WeightSet | null
  /** Failures in a row. */
  failures: number
  cause: unknown
  readyAtMs: number
  /** Cancels the load. It does not concern the set once it is loaded. */
  loading: AbortController
}

/** Loads and releases weight sets. It changes their state, and says so to the swap. */
export interface SetLoader {
  /**
   * Loads a set: `loading`, then `ready`, or `failed` until its next retry. A loaded set whose process or device ends fails too.
   *
   * @returns false if the load was cancelled
   */
  load(set: SwapSet): Promise<boolean>
  /** Cancels the load of a set that is loading. */
  cancel(set: SwapSet | undefined): void
  /** Releases a set once no request is pinned to it: `draining`. A failure is logged. */
  release(set: SwapSet, weights: WeightSet): Promise<void>
}

/** Parts of a {@link SetLoader}. */
export interface SetLoaderDeps {
  model: DenseModel
  backend: Backend
  masks: Pick<MaskStore, 'ensure'>
  log: Log
  observer: SwapObserver | undefined
  /** Returns the memory that all sets may take together. */
  budgetBytes: () => number
  /** Settles when no request is pinned to the version, see `SwapEngine.drain`. */
  drain: (version: number, deadlineMs: number) => Promise<void>
  drainMs: number
  retryMs: { first: number; max: number }
  nowMs: () => number
  /** Called when new requests can start on a set. */
  onReady: (set: SwapSet, weights: WeightSet) => void
  /** Called when a load failed. */
  onFailed: (set: SwapSet, error: unknown) => void
  /** Called when a loaded set has ended by itself. */
  onLost: () => void
}

/** Returns a set that was never loaded. */
export function newSet(name: WeightSetName): SwapSet {
  return {
    ...name,
    state: 'loading',
    retryAtMs: 0,
    weights: null,
    failures: 0,
    cause: null,
    readyAtMs: 0,
    loading: new AbortController(),
  }
}

/** Creates a loader. */
export function createSetLoader(deps: SetLoaderDeps): SetLoader {
  const { backend, log, observer, retryMs, nowMs } = deps

  async function timed<T>(phase: Parameters<SwapObserver['phase']>[0], part: Promise<T>): Promise<T> {
    const startedMs = performance.now()
    const result = await part
    observer?.phase(phase, performance.now() - startedMs)
    return result
  }

  async function loadWeights({ version, sha256 }: WeightSetName, signal: AbortSignal): Promise<WeightSet> {
    const maskPath = sha256 === null ? null : await timed('fetch', deps.masks.ensure(sha256, signal))
    signal.throwIfAborted()
    const source = { model: deps.model, version, maskPath, priority: 'serving', signal } as const
    const weights = await timed('pack', backend.load({ ...source, budgetBytes: deps.budgetBytes }))
    if (signal.aborted) await backend.release(weights)
    signal.throwIfAborted()
    return weights
  }

  function markReady(set: SwapSet, weights: WeightSet): void {
    set.weights = weights
    set.state = 'ready'
    set.cause = null
    set.readyAtMs = nowMs()
    void weights.ended.then((cause) => {
      if (set.weights === weights && cause) markLost(set, cause)
    })
    deps.onReady(set, weights)
  }

  /** Marks a loaded set whose weights have ended by themselves. One that is being released need not be loaded again. */
  function markLost(set: SwapSet, cause: Error): void {
    set.weights = null
    if (set.state === 'draining') return
    if (nowMs() - set.readyAtMs > retryMs.max) set.failures = 0
    markFailed(set, cause)
    // After the first crash the set is loaded again at once; repeated crashes wait longer each time.
    if (set.failures === 1) set.retryAtMs = nowMs()
    log.error('weight set ended unexpectedly', { version: set.version, reason: reasonOf(cause) })
    deps.onLost()
  }

  function markFailed(set: SwapSet, cause: unknown): void {
    set.failures += 1
    set.state = 'failed'
    set.cause = cause
    set.retryAtMs = nowMs() + Math.min(retryMs.max, retryMs.first * 2 ** (set.failures - 1))
  }

  return {
    async load(set) {
      const loading = new AbortController()
      set.state = 'loading'
      set.loading = loading
      try {
        markReady(set, await loadWeights(set, loading.signal))
        observer?.loaded('ready')
      } catch (error) {
        observer?.loaded(loading.signal.aborted ? 'abandoned' : 'failed')
        if (loading.signal.aborted) return false
        markFailed(set, error)
        log.error('weight set cannot be loaded', {
          version: set.version,
          sha256: set.sha256,
          code: toAppError(error).code,
          reason: reasonOf(error),
          retryInMs: Math.round(set.retryAtMs - nowMs()),
        })
        deps.onFailed(set, error)
      }
      return true
    },
    cancel(set) {
      if (set?.state === 'loading') set.loading.abort(new Error('the weight set is no longer wanted'))
    },
    async release(set, weights) {
      const { version } = set
      set.state = 'draining'
      set.releaseByMs = nowMs() + deps.drainMs
      try {
        await timed('drain', deps.drain(version, deps.drainMs))
        await backend.release(weights)
        log.info('weight set released', { version })
      } catch (error) {
        log.error('weight set could not be released cleanly', { version, reason: reasonOf(error) })
      } finally {
        set.weights = null
      }
    },
  }
}
