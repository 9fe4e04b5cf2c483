import { toAppError } from '@copal/shared/errors.ts'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { SwapObserver } from '../contract/observers.ts'
import { monotonicMs } from '../../platform/clock.ts'
import type { Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { MaskStore } from './mask-store.ts'
import { createDomainUse, rankOwnMasks } from './own-masks.ts'
import type { GiveBack } from './reserve-memory.ts'
import { namesOf, planSwap, type DesiredMasks, type WeightSetName, type SwapPlan } from './swap-plan.ts'
import { createSetLoader, newSet, type SwapSet } from './set-loader.ts'
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

const DENSE: WeightSetName = { version: 0, sha256: null }

/** Creates the mask swap of a node; nothing is loaded until `start`. */
export function createMaskSwap(deps: MaskSwapDeps): MaskSwap {
  const nowMs = deps.nowMs ?? monotonicMs
  const drainMs = deps.drainMs ?? 30_000
  const retryMs = deps.retryMs ?? { first: 2_000, max: 60_000 }
  const use = createDomainUse(nowMs)
  const held = new Map<number, SwapSet>()
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
  const loader = createSetLoader({
    ...deps,
    observer: deps.observer,
    budgetBytes: () => memory.budgetBytes(),
    drain: (version, deadlineMs) => deps.engine.drain(version, deadlineMs),
    drainMs,
    retryMs,
    nowMs,
    onReady(set, weights) {
      if (weights.bytes !== undefined) memory.noteSize(set, weights.bytes)
      // A set that replaces a crashed one takes over the requests of its version.
      if (active === set.version) deps.engine.setActive(weights)
    },
    onFailed({ version }, error) {
      if (version === active || version === (desired.active ?? DENSE).version)
        deps.engine.failWithoutWeights(error)
    },
    onLost() {
      deps.onChange()
      reconcile()
    },
  })

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
      for (const version of plan.abandon) loader.cancel(held.get(version))
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
    const set = held.get(name.version) ?? newSet(name)
    held.set(name.version, set)
    const loading = loader.load(set)
    deps.onChange()
    if (!(await loading)) held.delete(name.version)
  }

  function startDrain(version: number): void {
    const set = held.get(version)
    if (!set?.weights) return
    track(loader.release(set, set.weights).finally(() => held.delete(version)))
    deps.onChange()
  }

  function stop(): void {
    stopped = true
    clearTimeout(timer)
    for (const set of held.values()) loader.cancel(set)
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
        ...[...held.values()].map((set) => stateOf(set, deps.engine.requestsOn(set.version))),
      ].sort((a, b) => a.version - b.version)
    },
    unheld: () => unheld.map((name) => ({ version: name.version, bytes: bytesOf(name) })),
    reserve: (bytes, signal) => memory.reserve(bytes, signal),
    freeBytes: () => memory.freeBytes(),
    weights(version) {
      const set = held.get(version)
      return set?.state === 'ready' ? (set.weights ?? undefined) : undefined
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
