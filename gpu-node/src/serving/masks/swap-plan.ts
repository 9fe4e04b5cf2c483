import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'

/** The masks that the gateway wants served and kept warm; null is dense. */
export type DesiredMasks = HeartbeatResponse['desired']

/** The name of a weight set: version 0 with a null hash is dense. */
export interface WeightSetName {
  version: number
  sha256: string | null
}

/** A weight set that this node holds, loads or releases; at most one per version. */
export interface HeldWeightSet extends WeightSetName {
  state: 'loading' | 'ready' | 'draining' | 'failed'
  /** Time at which a failed set may be loaded again, Unix milliseconds. */
  retryAtMs: number
}

/** The next actions towards the desired state. */
export interface SwapPlan {
  /** Version to activate now; null for none. */
  activate: number | null
  /** Versions to release once their requests have ended: neither desired nor serving. */
  drain: number[]
  /** Failed versions that are no longer desired, to forget. */
  forget: number[]
  /** Loading versions that are no longer desired, whose load is cancelled. */
  abandon: number[]
  /** The set to load next; null when there is none, or one is loading. */
  load: WeightSetName | null
  /** Time at which to plan again even if nothing happens; null for never. */
  wakeAtMs: number | null
}

const DENSE: WeightSetName = { version: 0, sha256: null }

/** Returns the sets that a node holds whatever memory they take. */
export function requiredSets({ active, previous, trials = [] }: DesiredMasks): WeightSetName[] {
  return uniqueByVersion([active ?? DENSE, DENSE, previous ?? DENSE, ...trials])
}

/**
 * Plans the next actions that bring a node closer to the desired state; an empty plan when nothing is to be done.
 *
 * The dense set is always kept: it serves when nothing else can, and is the reference of drift. The active set is kept
 * until its successor is ready, so that a mask that cannot be loaded never interrupts serving. The previous set stays
 * loaded, so that a roll-back is immediate; trial masks, and then those of single domains, are loaded beside them. Sets load one at a time, the most needed
 * first, because loading takes memory and processor time from serving. A version held under another hash (the gateway
 * restarted its numbering) is drained before its successor is loaded.
 *
 * @param activeVersion version that new requests start on; null before anything serves
 */
export function planSwap(
  desired: DesiredMasks,
  held: readonly HeldWeightSet[],
  activeVersion: number | null,
  nowMs: number,
): SwapPlan {
  const target: WeightSetName = desired.active ?? DENSE
  const wanted = uniqueByVersion([...requiredSets(desired), ...(desired.own ?? [])])
  const byVersion = new Map(held.map((set) => [set.version, set]))
  const isWanted = (set: WeightSetName) => wanted.some((name) => isSameSet(name, set))

  const plan: SwapPlan = { activate: null, drain: [], forget: [], abandon: [], load: null, wakeAtMs: null }
  plan.activate = planActivation(target, byVersion, activeVersion, isWanted)
  const serving = plan.activate ?? activeVersion

  let loading = false
  for (const set of held) {
    if (set.state === 'loading') {
      loading = true
      if (!isWanted(set)) plan.abandon.push(set.version)
    } else if (set.state === 'ready' && !isWanted(set) && set.version !== serving)
      plan.drain.push(set.version)
    else if (set.state === 'failed' && !isWanted(set)) plan.forget.push(set.version)
  }
  if (loading) return plan

  for (const name of wanted) {
    const set = byVersion.get(name.version)
    if (set && !(set.state === 'failed' && isWanted(set))) continue
    if (set && set.retryAtMs > nowMs) {
      plan.wakeAtMs = Math.min(plan.wakeAtMs ?? Infinity, set.retryAtMs)
    } else {
      plan.load ??= name
    }
  }
  return plan
}

/** Returns the target once it is ready, and dense when nothing serves or the serving set blocks its successor. */
function planActivation(
  target: WeightSetName,
  held: ReadonlyMap<number, HeldWeightSet>,
  activeVersion: number | null,
  isWanted: (set: WeightSetName) => boolean,
): number | null {
  const isReady = (name: WeightSetName) => {
    const set = held.get(name.version)
    return set !== undefined && set.state === 'ready' && isSameSet(set, name)
  }
  if (isReady(target)) return target.version === activeVersion ? null : target.version
  const active = activeVersion === null ? undefined : held.get(activeVersion)
  const blocksTarget = active !== undefined && active.version === target.version && !isWanted(active)
  if ((activeVersion === null || blocksTarget) && isReady(DENSE)) return DENSE.version
  return null
}

function isSameSet(a: WeightSetName, b: WeightSetName): boolean {
  return a.version === b.version && a.sha256 === b.sha256
}

function uniqueByVersion(names: readonly WeightSetName[]): WeightSetName[] {
  return names.filter((name, index) => names.findIndex((other) => other.version === name.version) === index)
}
