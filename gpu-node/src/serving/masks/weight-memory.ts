import type { Log } from '../../platform/log.ts'
import { reserveMemory, type GiveBack } from './reserve-memory.ts'
import { createTrialWait } from './trial-wait.ts'
import { planSwap, type DesiredMasks, type HeldWeightSet, type WeightSetName } from './swap-plan.ts'

/** The memory for weight sets: what each takes, and what other work has of it. */
export interface WeightMemory {
  /** Returns the memory of a set, an estimate for one that was never loaded: that of the largest mask that was. */
  bytesOf(name: WeightSetName): number
  /** Notes the size of a set that was loaded. */
  noteSize(name: WeightSetName, bytes: number): void
  /** Forgets the sizes of all sets but these. */
  keepSizes(names: readonly WeightSetName[]): void
  /** Returns the memory that sets take. */
  heldBytes(): number
  /** Returns the memory that sets may take now: without what is reserved. */
  budgetBytes(): number
  /** Returns the memory for sets that no set takes, at least 0. */
  freeBytes(): number
  /**
   * Returns the desired trials without memory that would have some if nothing were reserved: they wait for it. One that has waited
   * too long is left out, with a line in the log. Call it at least every few seconds.
   */
  waitingTrials(): WeightSetName[]
  /**
   * Takes memory for other work, and waits until the sets that no longer fit are released.
   *
   * @returns null if the active set, a successor of its size and the trials would not fit beside it, or sets are not released
   * in time
   * @throws the reason of `signal`
   */
  reserve(bytes: number, signal?: AbortSignal): Promise<GiveBack | null>
}

/** Parts of {@link createWeightMemory}. */
export interface WeightMemoryDeps {
  /** Memory for all sets together, and that of the dense one, perhaps not whole, while its size is unknown. */
  memory: { bytes: number; denseBytes: number }
  /** Returns the sets that are held. */
  held: () => HeldWeightSet[]
  desired: () => DesiredMasks
  /** Returns the version that new requests start on; null before anything serves. */
  active: () => number | null
  isClosed: () => boolean
  /** Called when the budget has changed. */
  onBudget: () => void
  /** Limit for the release of sets that a reservation takes the memory of. */
  releaseTimeoutMs: number
  log: Pick<Log, 'warn'>
  nowMs: () => number
}

const DENSE: WeightSetName = { version: 0, sha256: null }
/** Time after which a trial that waits for reserved memory counts as one that does not fit. */
const TRIAL_WAIT_MS = 30 * 60_000

/** Creates the memory for weight sets, of which nothing is reserved. */
export function createWeightMemory(deps: WeightMemoryDeps): WeightMemory {
  const memory = { ...deps.memory, denseBytes: Math.ceil(deps.memory.denseBytes) }
  /** Bytes of the sets that were loaded, also of those that are no longer held, by name. */
  const sizes = new Map<string, number>()
  /** Bytes reserved for other work. */
  let reservedBytes = 0

  const trialWait = createTrialWait({
    maxWaitMs: TRIAL_WAIT_MS,
    log: deps.log,
    nowMs: deps.nowMs,
  })

  const budgetBytes = () => memory.bytes - reservedBytes

  function bytesOf(name: WeightSetName): number {
    const denseBytes = sizes.get(keyOf(DENSE)) ?? memory.denseBytes
    if (name.version === 0) return denseBytes
    // Of sets that are held or not: an estimate that changed with what is held would change what is to be held.
    const masked = [...sizes].flatMap(([key, bytes]) => (key === keyOf(DENSE) ? [] : bytes))
    return sizes.get(keyOf(name)) ?? (masked.length > 0 ? Math.max(...masked) : denseBytes)
  }

  function heldBytes(): number {
    return deps.held().reduce((sum, set) => sum + (set.state === 'failed' ? 0 : bytesOf(set)), 0)
  }

  /** Returns the trials that do not fit into memory. */
  function unheldTrials(budget: number): WeightSetName[] {
    const sets = { budgetBytes: budget, bytesOf }
    const { unheld } = planSwap(deps.desired(), deps.held(), deps.active(), deps.nowMs(), sets)
    return unheld.filter(({ version }) => deps.desired().trials?.some((trial) => trial.version === version))
  }

  /** Returns whether the active set, a successor of its size and the trials fit into memory. */
  function canServeWith(budget: number): boolean {
    // A successor is loaded while the active set still serves. Its size is that of the largest mask.
    const neededBytes = bytesOf(deps.desired().active ?? DENSE) + bytesOf({ version: -1, sha256: '' })
    return !deps.isClosed() && neededBytes <= budget && unheldTrials(budget).length === 0
  }

  return {
    bytesOf,
    noteSize: (name, bytes) => void sizes.set(keyOf(name), bytes),
    keepSizes(names) {
      const kept = names.map(keyOf)
      for (const key of sizes.keys()) if (!kept.includes(key)) sizes.delete(key)
    },
    heldBytes,
    budgetBytes,
    freeBytes: () => Math.max(0, budgetBytes() - heldBytes()),
    waitingTrials() {
      if (reservedBytes === 0) return trialWait.update([])
      const never = unheldTrials(memory.bytes)
      return trialWait.update(
        unheldTrials(budgetBytes()).filter(
          ({ version }) => !never.some((trial) => trial.version === version),
        ),
      )
    },
    reserve: (bytes, signal) =>
      reserveMemory(
        bytes,
        {
          budgetBytes,
          heldBytes,
          canServeWith,
          change(more) {
            reservedBytes += more
            deps.onBudget()
          },
        },
        { timeoutMs: deps.releaseTimeoutMs, signal },
      ),
  }
}

function keyOf({ version, sha256 }: WeightSetName): string {
  return `${version} ${sha256}`
}
