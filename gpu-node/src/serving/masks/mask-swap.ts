import { toAppError } from '@copal/shared/errors.ts'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { SwapObserver } from '../contract/observers.ts'
import { monotonicMs } from '../../platform/clock.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { MaskStore } from './mask-store.ts'
import { createDomainUse, rankOwnMasks } from './own-masks.ts'
import type { GiveBack } from './reserve-memory.ts'
import {
  namesOf,
  planSwap,
  type DesiredMasks,
  type HeldWeightSet,
  type WeightSetName,
  type SwapPlan,
} from './swap-plan.ts'
import { createWeightMemory } from './weight-memory.ts'
import { stateOf } from './weight-set-state.ts'

/** The methods of the engine that a swap needs. */
export interface SwapEngine {
  /**
   * Makes new requests start on these weights from the next step on. The set replaces an ended one of its version.
   *
   * @throws AppError when the engine is closed
   */
  setActive(weights: WeightSet): void
  /** Fails the requests that wait for weights, if none are active: for this cause those to come cannot be loaded now. */
  failWithoutWeights(cause: unknown): void
  /** Returns the number of requests pinned to a version. */
  requestsOn(version: number): number
  /** Settles when no request is pinned to the version. At the deadline, restartable requests move to the active version. */
  drain(version: number, deadlineMs: number): Promise<void>
}

/** Keeps the weight sets of a node at the desired state. */
export interface MaskSwap {
  /**
   * Applies the first desired state. Settles when its active mask serves, or dense weights because that mask failed.
   *
   * @throws AppError when the dense set cannot be loaded either
   */
  start(desired: DesiredMasks): Promise<void>
  /** Applies a new desired state and returns at once. A new active mask that is ready is activated before it returns. */
  converge(desired: DesiredMasks): void
  /** Counts a request of a domain. If the masks of single domains do not all fit into memory, the most used ones are held. */
  countUse(domain: string): void
  /** Returns the version that new requests start on. */
  activeVersion(): number
  /**
   * Returns the state of every set, ordered by version, for the heartbeat. A trial that waits for memory that is reserved for
   * other work is loading, as long as it may wait.
   */
  weightSets(): WeightSetState[]
  /**
   * Returns the desired sets that do not fit into memory now, with their bytes, except those of single domains. Trials that wait for
   * reserved memory are among them.
   */
  unheld(): { version: number; bytes: number }[]
  /** Returns the memory for weight sets that no set takes, at least 0. */
  freeBytes(): number
  /**
   * Takes memory from weight sets for other work, and settles when it is free. Sets that need not serve are released, and loaded
   * again once the returned function was called.
   *
   * @returns null if the active set, a successor of its size and the trials would not fit beside it, or sets are not released
   * in time
   * @throws the reason of `signal`
   */
  reserve(bytes: number, signal?: AbortSignal): Promise<GiveBack | null>
  /** Returns the set of a version if new requests can start on it; a draining set does not count. */
  weights(version: number): WeightSet | undefined
  /** Returns the sets that new requests can start on: the active one, then the others by version. */
  readySets(): WeightSet[]
  /** Returns the mask hash of a version that is held or desired; null is dense, undefined unknown. */
  maskOf(version: number): string | null | undefined
  /** Settles when no load, activation or release remains that can be done now. */
  settled(): Promise<void>
  /** Stops converging: what loads is cancelled, and nothing is loaded or activated any more. Call it before the engine is closed. */
  stop(): void
  /** Stops, and releases every set. */
  close(): Promise<void>
}

/** Parts of a {@link MaskSwap}. */
export interface MaskSwapDeps {
  model: DenseModel
  backend: Backend
  engine: SwapEngine
  masks: Pick<MaskStore, 'ensure'>
  log: Log
  observer?: SwapObserver
  /** Called when a state that heartbeats report has changed. */
  onChange: () => void
  /** Memory for all sets together, and that of the dense one while its size is unknown; no limit by default. */
  memory?: { bytes: number; denseBytes: number }
  /** Time after which requests of a draining set restart on the active one, if their output has not begun. */
  drainMs?: number
  /** Wait before a failed load is repeated: the first wait, which doubles up to the longest. */
  retryMs?: { first: number; max: number }
  nowMs?: () => number
}

interface Entry extends HeldWeightSet {
  weights: WeightSet | null
  /** Failures in a row. */
  failures: number
  cause: unknown
  readyAtMs: number
  /** Cancels the load. It does not concern the set once it is loaded. */
  loading: AbortController
}

const DENSE: WeightSetName = { version: 0, sha256: null }

/** Creates the mask swap of a node; nothing is loaded until `start`. */
export function createMaskSwap(deps: MaskSwapDeps): MaskSwap {
  const nowMs = deps.nowMs ?? monotonicMs
  const drainMs = deps.drainMs ?? 30_000
  const retryMs = deps.retryMs ?? { first: 2_000, max: 60_000 }
  const use = createDomainUse(nowMs)
  const held = new Map<number, Entry>()
  /** Running loads and releases. */
  const pendingWork = new Set<Promise<void>>()
  const serving = Promise.withResolvers<void>()
  let desired: DesiredMasks = { active: null, previous: null }
  let active: number | null = null
  let unheld: WeightSetName[] = []
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  const memory = createWeightMemory({
    memory: deps.memory ?? { bytes: Infinity, denseBytes: 0 },
    held: () => [...held.values()],
    desired: () => desired,
    active: () => active,
    isClosed: () => stopped,
    onBudget() {
      deps.onChange()
      reconcile()
    },
    releaseTimeoutMs: 2 * drainMs,
    log: deps.log,
    nowMs,
  })
  const bytesOf = (name: WeightSetName) => memory.bytesOf(name)

  /** Plans and acts until only running loads and releases remain, which call it again when they end. */
  function reconcile(): void {
    while (!stopped) {
      clearTimeout(timer)
      const own = rankOwnMasks(desired.own ?? [], {
        useOf: (domain) => use.of(domain),
        isHeld: (version) => held.get(version)?.weights != null,
      })
      const budget = { budgetBytes: memory.budgetBytes(), bytesOf }
      const plan = planSwap({ ...desired, own }, [...held.values()], active, nowMs(), budget)
      activate(plan)
      noteUnheld(plan.unheld.filter(({ version }) => !own.some((mask) => mask.version === version)))
      for (const version of plan.drain) startDrain(version)
      for (const version of plan.forget) held.delete(version)
      for (const version of plan.abandon) cancelLoad(held.get(version))
      if (plan.load) track(load(plan.load))
      else if (plan.activate === null && plan.drain.length === 0 && plan.forget.length === 0) {
        if (plan.wakeAtMs !== null) reconcileAt(plan.wakeAtMs)
        return
      }
    }
  }

  /** Keeps and logs the sets that do not fit into memory, when they change. */
  function noteUnheld(names: WeightSetName[]): void {
    const versionsOf = (sets: WeightSetName[]) => sets.map(({ version }) => version)
    if (String(versionsOf(names)) === String(versionsOf(unheld))) return
    unheld = names
    deps.onChange()
    if (names.length === 0) return
    const neededBytes = names.reduce((sum, name) => sum + bytesOf(name), memory.heldBytes())
    deps.log.info('memory does not suffice for all weight sets, so some are packed when they are needed', {
      versions: versionsOf(names).join(', '),
      neededMegabytes: Math.round(neededBytes / 1e6),
      megabytes: Math.round(memory.budgetBytes() / 1e6),
    })
  }

  function track(work: Promise<void>): void {
    const done = work.finally(() => {
      pendingWork.delete(done)
      deps.onChange()
      reconcile()
    })
    pendingWork.add(done)
  }

  function reconcileAt(atMs: number): void {
    timer = setTimeout(reconcile, Math.max(0, atMs - nowMs()))
    timer.unref()
  }

  /** Activates the planned version. */
  function activate(plan: SwapPlan): void {
    const weights = plan.activate === null ? null : held.get(plan.activate)?.weights
    if (!weights) return
    const startedMs = performance.now()
    deps.engine.setActive(weights)
    deps.observer?.phase('flip', performance.now() - startedMs)
    deps.log.info('new requests start on another mask', { version: weights.version, before: active })
    deps.observer?.swapped()
    active = weights.version
    serving.resolve()
    deps.onChange()
  }

  async function load(name: WeightSetName): Promise<void> {
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
      const { sha256 } = name
      const maskPath = sha256 === null ? null : await timed('fetch', deps.masks.ensure(sha256, signal))
      signal.throwIfAborted()
      const { version } = name
      const source = { model: deps.model, version, maskPath, priority: 'serving', signal } as const
      const freeBytes = () => memory.freeBytes()
      const weights = await timed('pack', deps.backend.load({ ...source, freeBytes }))
      if (signal.aborted) await deps.backend.release(weights)
      signal.throwIfAborted()
      markReady(entry, weights)
      deps.observer?.loaded('ready')
    } catch (error) {
      deps.observer?.loaded(signal.aborted ? 'abandoned' : 'failed')
      if (signal.aborted) return void held.delete(name.version)
      markFailed(entry, error)
      deps.log.error('weight set cannot be loaded', {
        version: name.version,
        sha256: name.sha256,
        code: toAppError(error).code,
        reason: reasonOf(error),
        retryInMs: Math.round(entry.retryAtMs - nowMs()),
      })
      if (name.version === active || name.version === (desired.active ?? DENSE).version)
        deps.engine.failWithoutWeights(error)
    }
  }

  function cancelLoad(entry: Entry | undefined): void {
    if (entry?.state === 'loading') entry.loading.abort(new Error('the weight set is no longer wanted'))
  }

  async function timed<T>(phase: Parameters<SwapObserver['phase']>[0], part: Promise<T>): Promise<T> {
    const startedMs = performance.now()
    const result = await part
    deps.observer?.phase(phase, performance.now() - startedMs)
    return result
  }

  function markReady(entry: Entry, weights: WeightSet): void {
    entry.weights = weights
    if (weights.bytes !== undefined) memory.noteSize(entry, weights.bytes)
    entry.state = 'ready'
    entry.cause = null
    entry.readyAtMs = nowMs()
    void weights.ended.then((cause) => {
      if (entry.weights !== weights || !cause) return
      entry.weights = null
      if (entry.state === 'draining') return
      if (nowMs() - entry.readyAtMs > retryMs.max) entry.failures = 0
      markFailed(entry, cause)
      // After the first crash the set is loaded again at once; repeated crashes wait longer each time.
      if (entry.failures === 1) entry.retryAtMs = nowMs()
      deps.log.error('weight set ended unexpectedly', { version: entry.version, reason: reasonOf(cause) })
      deps.onChange()
      reconcile()
    })
    // A set that replaces a crashed one takes over the requests of its version.
    if (active === entry.version) deps.engine.setActive(weights)
  }

  function markFailed(entry: Entry, cause: unknown): void {
    entry.failures += 1
    entry.state = 'failed'
    entry.cause = cause
    entry.retryAtMs = nowMs() + Math.min(retryMs.max, retryMs.first * 2 ** (entry.failures - 1))
  }

  function startDrain(version: number): void {
    const entry = held.get(version)
    const weights = entry?.weights
    if (!entry || !weights) return
    entry.state = 'draining'
    entry.releaseByMs = nowMs() + drainMs
    deps.onChange()
    track(drainAndRelease(entry, weights))
  }

  async function drainAndRelease(entry: Entry, weights: WeightSet): Promise<void> {
    try {
      await timed('drain', deps.engine.drain(entry.version, drainMs))
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

  function stop(): void {
    stopped = true
    clearTimeout(timer)
    held.forEach(cancelLoad)
  }

  async function settled(): Promise<void> {
    while (pendingWork.size > 0) await Promise.all(pendingWork)
  }

  return {
    async start(initial) {
      desired = initial
      reconcile()
      // The other sets load while this one serves.
      await Promise.race([serving.promise, settled()])
      if (active === null) throw toAppError(held.get(0)?.cause)
    },
    converge(next) {
      desired = next
      use.keep((next.own ?? []).map(({ domain }) => domain))
      memory.keepSizes([DENSE, ...namesOf(desired), ...held.values()])
      reconcile()
    },
    countUse(domain) {
      if (desired.own?.some((mask) => mask.domain === domain)) use.add(domain)
    },
    activeVersion: () => active ?? 0,
    weightSets() {
      const waiting = memory.waitingTrials().filter(({ version }) => !held.has(version))
      return [
        ...waiting.map(({ version }) => ({ version, state: 'loading' as const, requests: 0 })),
        ...[...held.values()].map((entry) => stateOf(entry, deps.engine.requestsOn(entry.version))),
      ].sort((a, b) => a.version - b.version)
    },
    unheld: () => unheld.map((name) => ({ version: name.version, bytes: bytesOf(name) })),
    reserve: (bytes, signal) => memory.reserve(bytes, signal),
    freeBytes: () => memory.freeBytes(),
    weights(version) {
      const entry = held.get(version)
      return entry?.state === 'ready' ? (entry.weights ?? undefined) : undefined
    },
    readySets: () =>
      [...held.values()]
        .sort((a, b) => Number(b.version === active) - Number(a.version === active) || a.version - b.version)
        .flatMap(({ state, weights }) => (state === 'ready' && weights ? weights : [])),
    maskOf(version) {
      if (version === 0) return null
      return [...namesOf(desired), held.get(version)].find((name) => name?.version === version)?.sha256
    },
    settled,
    stop,
    async close() {
      stop()
      await settled()
      const loaded = [...held.values()].flatMap(({ weights }) => weights ?? [])
      held.clear()
      await Promise.all(loaded.map((weights) => deps.backend.release(weights)))
    },
  }
}
