import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'

/** The masks that the gateway wants served and kept warm; null is dense. */
export type DesiredMasks = HeartbeatResponse['desired']

/** Names a weight set: version 0 with a null hash is dense. */
export interface SetName {
  version: number
  sha256: string | null
}

/** A weight set that this node holds, tries to hold, or gives up. At most one a version. */
export interface HeldSet extends SetName {
  state: 'loading' | 'ready' | 'draining' | 'failed'
  /** Of a failed set: when it may be loaded again, Unix milliseconds. */
  retryAtMs: number
}

/** The next moves towards the desired state. */
export interface SwapPlan {
  /** Flip to this version now; null: nothing to flip. */
  activate: number | null
  /** Versions that may end once their requests have: neither wanted nor serving. */
  drain: number[]
  /** Failed versions that nobody wants any more: forget them. */
  forget: number[]
  /** Versions that are loading and that nobody wants any more. */
  abandon: number[]
  /** The one set to load next; null: none, or one is loading. */
  load: SetName | null
  /** When to plan again although nothing happened; null: never. */
  wakeAtMs: number | null
}

const DENSE: SetName = { version: 0, sha256: null }

/**
 * Decides what brings a node nearer to the desired state; nothing to do gives an empty plan.
 *
 * Dense is always kept: it serves when nothing else can, and drift compares with it. The active set is kept
 * until its successor is ready, so a mask that cannot be loaded never takes the service away; the previous set
 * stays warm, so a roll-back to it is one flip; masks on trial are held ready beside them. Loads go one at a time, in the order of what is missed most: they
 * cost memory and processor that serving needs. A version held under another hash (a gateway that started
 * its numbering anew) is drained before its successor is loaded.
 *
 * @param activeVersion what new requests start on; null before anything serves
 */
export function planSwap(
  desired: DesiredMasks,
  held: readonly HeldSet[],
  activeVersion: number | null,
  nowMs: number,
): SwapPlan {
  const target: SetName = desired.active ?? DENSE
  const wanted = distinct([target, DENSE, desired.previous ?? DENSE, ...(desired.trials ?? [])])
  const byVersion = new Map(held.map((set) => [set.version, set]))
  const isWanted = (set: SetName) => wanted.some((name) => same(name, set))

  const plan: SwapPlan = { activate: null, drain: [], forget: [], abandon: [], load: null, wakeAtMs: null }
  plan.activate = planFlip(target, byVersion, activeVersion, isWanted)
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

/** The target as soon as it is ready; dense when nothing serves, or what serves must make room for its successor. */
function planFlip(
  target: SetName,
  held: ReadonlyMap<number, HeldSet>,
  activeVersion: number | null,
  isWanted: (set: SetName) => boolean,
): number | null {
  const isReady = (name: SetName) => {
    const set = held.get(name.version)
    return set !== undefined && set.state === 'ready' && same(set, name)
  }
  if (isReady(target)) return target.version === activeVersion ? null : target.version
  const active = activeVersion === null ? undefined : held.get(activeVersion)
  const inTheWay = active !== undefined && active.version === target.version && !isWanted(active)
  if ((activeVersion === null || inTheWay) && isReady(DENSE)) return DENSE.version
  return null
}

function same(a: SetName, b: SetName): boolean {
  return a.version === b.version && a.sha256 === b.sha256
}

function distinct(names: readonly SetName[]): SetName[] {
  return names.filter((name, index) => names.findIndex((other) => other.version === name.version) === index)
}
