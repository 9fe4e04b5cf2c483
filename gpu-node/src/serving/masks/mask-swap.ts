import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { MaskStore } from './mask-store.ts'
import { planSwap, type DesiredMasks, type HeldSet, type SetName, type SwapPlan } from './swap-plan.ts'

/** What a swap needs of the engine. */
export interface SwapEngine {
  /**
   * New requests start on these weights from the next step on; takes the place of an ended set of its version.
   *
   * @throws AppError when the engine is closed
   */
  setActive(weights: WeightSet): void
  /** Requests pinned to a version. */
  requestsOn(version: number): number
  /** Settles when no request is pinned to the version; at the deadline those that can start over on another. */
  drain(version: number, deadlineMs: number): Promise<void>
}

/** Keeps the weight sets of a node at the desired state. */
export interface MaskSwap {
  /**
   * Takes the first desired state; settles when its active mask serves, or dense because that mask failed.
   *
   * @throws AppError when not even the dense set can be loaded
   */
  start(desired: DesiredMasks): Promise<void>
  /** Takes a new desired state; returns at once, and has flipped if the new active mask is ready, whatever loads. */
  converge(desired: DesiredMasks): void
  /** What new requests start on. */
  activeVersion(): number
  /** Every set held, for the heartbeat, by version. */
  weightSets(): WeightSetState[]
  /** The set of a version, if new requests can start on it: not while it drains. */
  weights(version: number): WeightSet | undefined
  /** The hash behind a version that is held or wanted; null is dense, undefined unknown. */
  maskOf(version: number): string | null | undefined
  /** Settles when no load, flip or release is left that could be done now. */
  settled(): Promise<void>
  /** Stops converging and releases every set. */
  close(): Promise<void>
}

/** Parts of a {@link MaskSwap}. */
export interface MaskSwapDeps {
  model: DenseModel
  backend: Backend
  engine: SwapEngine
  masks: Pick<MaskStore, 'ensure'>
  log: Log
  /** Something that a heartbeat tells has changed. */
  onChange: () => void
  /** After so long those requests of a retired set start over whose answers have not begun. */
  drainMs?: number
  /** Wait before the first and before later repetitions of a failed load. */
  retryMs?: { first: number; most: number }
  nowMs?: () => number
}

interface Entry extends HeldSet {
  weights: WeightSet | null
  /** Failures in a row. */
  failures: number
  cause: unknown
  readyAtMs: number
  /** Gives up its load, as far as that can be: a download. */
  loading: AbortController
}

/** Composes the swap of a node; nothing is loaded until `start`. */
export function createMaskSwap(deps: MaskSwapDeps): MaskSwap {
  const nowMs = deps.nowMs ?? Date.now
  const drainMs = deps.drainMs ?? 30_000
  const retryMs = deps.retryMs ?? { first: 2_000, most: 60_000 }
  const held = new Map<number, Entry>()
  /** Loads and releases under way. */
  const working = new Set<Promise<void>>()
  const serving = Promise.withResolvers<void>()
  let desired: DesiredMasks = { active: null, previous: null }
  let active: number | null = null
  let timer: NodeJS.Timeout | undefined
  let closed = false

  /** Plans and acts until there is nothing to do but to wait for loads and releases, whose ends call it again. */
  function reconcile(): void {
    while (!closed) {
      clearTimeout(timer)
      const plan = planSwap(desired, [...held.values()], active, nowMs())
      if (!applyFlip(plan)) return
      for (const version of plan.drain) retire(version)
      for (const version of plan.forget) held.delete(version)
      for (const version of plan.abandon) held.get(version)?.loading.abort()
      if (plan.load) follow(load(plan.load))
      else if (plan.activate === null && plan.drain.length === 0 && plan.forget.length === 0) {
        if (plan.wakeAtMs !== null) wakeAt(plan.wakeAtMs)
        return
      }
    }
  }

  function follow(work: Promise<void>): void {
    const done = work.finally(() => {
      working.delete(done)
      deps.onChange()
      reconcile()
    })
    working.add(done)
  }

  function wakeAt(atMs: number): void {
    timer = setTimeout(reconcile, Math.max(0, atMs - nowMs()))
    timer.unref()
  }

  /** @returns false when the engine takes no weights any more: the node stops, and so does the swap. */
  function applyFlip(plan: SwapPlan): boolean {
    const weights = plan.activate === null ? null : held.get(plan.activate)?.weights
    if (!weights) return true
    try {
      deps.engine.setActive(weights)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      deps.log.warn('a mask that is ready is not served any more', {
        version: weights.version,
        reason: error.message,
      })
      return false
    }
    deps.log.info('new requests start on another mask', { version: weights.version, before: active })
    active = weights.version
    serving.resolve()
    deps.onChange()
    return true
  }

  async function load(name: SetName): Promise<void> {
    const loading = new AbortController()
    const { signal } = loading
    const entry: Entry = held.get(name.version) ?? {
      ...name,
      state: 'loading',
      retryAtMs: 0,
      weights: null,
      failures: 0,
      cause: null,
      readyAtMs: 0,
      loading,
    }
    entry.state = 'loading'
    entry.loading = loading
    held.set(name.version, entry)
    deps.onChange()
    try {
      const maskPath = name.sha256 === null ? null : await deps.masks.ensure(name.sha256, signal)
      signal.throwIfAborted()
      const source = { model: deps.model, version: name.version, maskPath, priority: 'serving' } as const
      const weights = await deps.backend.load(source)
      if (closed) return await deps.backend.release(weights)
      publish(entry, weights)
    } catch (error) {
      if (signal.aborted) return void held.delete(name.version)
      fail(entry, error)
      deps.log.error('weight set cannot be loaded', {
        version: name.version,
        sha256: name.sha256,
        code: toAppError(error).code,
        reason: reasonOf(error),
        retryInMs: entry.retryAtMs - nowMs(),
      })
    }
  }

  function publish(entry: Entry, weights: WeightSet): void {
    entry.weights = weights
    entry.state = 'ready'
    entry.cause = null
    entry.readyAtMs = nowMs()
    void weights.ended.then((cause) => {
      if (entry.weights !== weights || !cause) return
      entry.weights = null
      if (entry.state === 'draining') return
      if (nowMs() - entry.readyAtMs > retryMs.most) entry.failures = 0
      fail(entry, cause)
      // The first crash is answered at once; crashes in a row wait longer and longer.
      if (entry.failures === 1) entry.retryAtMs = nowMs()
      deps.log.error('weight set ended unexpectedly', { version: entry.version, reason: reasonOf(cause) })
      deps.onChange()
      reconcile()
    })
    // A set that crashed comes back under the requests that its version has.
    if (active === entry.version) deps.engine.setActive(weights)
  }

  function fail(entry: Entry, cause: unknown): void {
    entry.failures += 1
    entry.state = 'failed'
    entry.cause = cause
    entry.retryAtMs = nowMs() + Math.min(retryMs.most, retryMs.first * 2 ** (entry.failures - 1))
  }

  function retire(version: number): void {
    const entry = held.get(version)
    const weights = entry?.weights
    if (!entry || !weights) return
    entry.state = 'draining'
    deps.onChange()
    follow(drainAndRelease(entry, weights))
  }

  async function drainAndRelease(entry: Entry, weights: WeightSet): Promise<void> {
    try {
      await deps.engine.drain(entry.version, drainMs)
      await deps.backend.release(weights)
      deps.log.info('weight set released', { version: entry.version })
    } catch (error) {
      deps.log.error('weight set could not be released cleanly', {
        version: entry.version,
        reason: reasonOf(error),
      })
    } finally {
      entry.weights = null
      held.delete(entry.version)
    }
  }

  async function settled(): Promise<void> {
    while (working.size > 0) await Promise.all(working)
  }

  return {
    async start(initial) {
      desired = initial
      reconcile()
      // The other sets are loaded while this one serves.
      await Promise.race([serving.promise, settled()])
      if (active === null) throw toAppError(held.get(0)?.cause)
    },
    converge(next) {
      desired = next
      reconcile()
    },
    activeVersion: () => active ?? 0,
    weightSets: () =>
      [...held.values()]
        .sort((a, b) => a.version - b.version)
        .map((entry) => ({
          version: entry.version,
          state: entry.state,
          requests: deps.engine.requestsOn(entry.version),
          ...(entry.state === 'failed' ? { error: reasonOf(entry.cause).slice(0, 1024) } : {}),
        })),
    weights(version) {
      const entry = held.get(version)
      return entry?.state === 'ready' ? (entry.weights ?? undefined) : undefined
    },
    maskOf(version) {
      if (version === 0) return null
      const names = [desired.active, desired.previous, ...(desired.trials ?? []), held.get(version)]
      return names.find((name) => name?.version === version)?.sha256
    },
    settled,
    async close() {
      closed = true
      clearTimeout(timer)
      for (const { loading } of held.values()) loading.abort()
      await settled()
      const left = [...held.values()].flatMap(({ weights }) => weights ?? [])
      held.clear()
      await Promise.all(left.map((weights) => deps.backend.release(weights)))
    },
  }
}
