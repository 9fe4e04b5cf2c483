import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { chooseHeldSets, type NeededSets, type SetMemory } from './memory-budget.ts'

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
  /** Time at which a failed set may be loaded again, by the clock of the swap, milliseconds. */
  retryAtMs: number
  /** Time until which a successor without memory waits for a draining set, by the clock of the swap, milliseconds. */
  releaseByMs?: number
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
  /** Desired sets that do not fit into memory, to load once they are required. */
  unheld: WeightSetName[]
  /** Time at which to plan again even if nothing happens; null for never. */
  wakeAtMs: number | null
}

const DENSE: WeightSetName = { version: 0, sha256: null }
const UNLIMITED: SetMemory<WeightSetName> = { budgetBytes: Infinity, bytesOf: () => 0 }

/**
 * Plans the next actions that bring a node closer to the desired state; an empty plan when nothing is to be done.
 *
 * The serving set is kept until its successor is ready, so that a mask that cannot be loaded never interrupts serving.
 * Both are held whatever memory they take. The others are held if they fit, in this order: the previous set, so that a
 * roll-back is immediate; the masks of trials; dense, the reference of drift; the masks of single domains. Dense is
 * required when nothing else can serve. Sets load one at a time, the most needed first, because loading takes memory and
 * processor time from serving. A load that does not fit beside sets that leave waits for their release; that of the
 * successor no longer than their `releaseByMs`, because streams may last long. A version held under another hash (the
 * gateway restarted its numbering) is drained before its successor is loaded.
 *
 * @param desired its `own` masks ordered by need
 * @param activeVersion version that new requests start on; null before anything serves
 */
export function planSwap(
  desired: DesiredMasks,
  held: readonly HeldWeightSet[],
  activeVersion: number | null,
  nowMs: number,
  memory = UNLIMITED,
): SwapPlan {
  const target: WeightSetName = desired.active ?? DENSE
  const byVersion = new Map(held.map((set) => [set.version, set]))
  const activate = planActivation(target, byVersion, activeVersion)
  const serving = activate ?? activeVersion
  const needed = neededSets(desired, byVersion, serving)
  const { held: wanted, unheld } = chooseHeldSets(needed, memory)
  const isWanted = (set: WeightSetName) => wanted.some((name) => isSameSet(name, set))
  const leaving = planLeaving(held, isWanted, serving)
  const plan: SwapPlan = { activate, ...leaving, load: null, unheld, wakeAtMs: null }
  if (held.some(({ state }) => state === 'loading')) return plan

  // Of a version that is held under another hash, that one leaves first.
  const missing = wanted.filter(({ version }) => {
    const set = byVersion.get(version)
    return set === undefined || (set.state === 'failed' && isWanted(set))
  })
  const heldBytes = held.reduce((sum, set) => sum + (set.state === 'failed' ? 0 : memory.bytesOf(set)), 0)
  return {
    ...plan,
    ...planLoad(missing, {
      nowMs,
      retryAtMs: ({ version }) => byVersion.get(version)?.retryAtMs ?? -Infinity,
      isRequired: (name) => needed.required.includes(name),
      fits: (name) => heldBytes + memory.bytesOf(name) <= memory.budgetBytes,
      releaseByMs: latestRelease(held, plan),
    }),
  }
}

/** Plans what becomes of the held sets that are not wanted and do not serve. */
function planLeaving(
  held: readonly HeldWeightSet[],
  isWanted: (set: WeightSetName) => boolean,
  serving: number | null,
): Pick<SwapPlan, 'drain' | 'forget' | 'abandon'> {
  const versionsOf = (state: HeldWeightSet['state']) =>
    held.filter((set) => set.state === state && !isWanted(set)).map(({ version }) => version)
  return {
    abandon: versionsOf('loading'),
    drain: versionsOf('ready').filter((version) => version !== serving),
    forget: versionsOf('failed'),
  }
}

/** What decides which missing set is loaded. */
interface LoadConditions {
  nowMs: number
  /** When a set that failed may be tried again; the past for others. */
  retryAtMs: (name: WeightSetName) => number
  /** Whether serving needs it, so that it does not wait for long. */
  isRequired: (name: WeightSetName) => boolean
  /** Whether it fits beside all that is held. */
  fits: (name: WeightSetName) => boolean
  /** Time until which loads wait for sets that leave; -Infinity without such sets. */
  releaseByMs: number
}

/** Plans the next load, and when to plan again if it must wait. A set that waits for memory keeps those behind it waiting. */
function planLoad(
  missing: readonly WeightSetName[],
  { nowMs, retryAtMs, isRequired, fits, releaseByMs }: LoadConditions,
): Pick<SwapPlan, 'load' | 'wakeAtMs'> {
  const wakesAtMs = missing.map(retryAtMs).filter((atMs) => atMs > nowMs)
  const next = missing.find((name) => retryAtMs(name) <= nowMs)
  let load = next ?? null
  if (next && !fits(next) && releaseByMs > (isRequired(next) ? nowMs : -Infinity)) {
    load = null
    if (isRequired(next) && releaseByMs < Infinity) wakesAtMs.push(releaseByMs)
  }
  return { load, wakeAtMs: wakesAtMs.length > 0 ? Math.min(...wakesAtMs) : null }
}

/** Returns the names of all desired masks. */
export function namesOf({ active, previous, trials = [], own = [] }: DesiredMasks): WeightSetName[] {
  return [active, previous, ...trials, ...own].filter((name) => name !== null)
}

/** Returns the sets that the desired state and serving need, by need. */
function neededSets(
  { active, previous, trials = [], own = [] }: DesiredMasks,
  held: ReadonlyMap<number, HeldWeightSet>,
  serving: number | null,
): NeededSets<WeightSetName> {
  const target = active ?? DENSE
  const servingSet = serving === null ? undefined : held.get(serving)
  const isDenseRequired = servingSet
    ? blocks(servingSet, target)
    : serving === null && held.get(target.version)?.state === 'failed'
  const required = uniqueByVersion([
    ...(servingSet?.state === 'ready' ? [servingSet] : []),
    target,
    ...(isDenseRequired ? [DENSE] : []),
  ])
  const all = uniqueByVersion([...required, previous ?? DENSE, ...trials, DENSE, ...own])
  return { required, optional: all.slice(required.length) }
}

/** Returns the time until which loads wait for the sets that leave; -Infinity without such sets. */
function latestRelease(held: readonly HeldWeightSet[], { drain }: SwapPlan): number {
  const leaving = held.filter(({ state, version }) => state === 'draining' || drain.includes(version))
  return Math.max(-Infinity, ...leaving.map(({ releaseByMs = Infinity }) => releaseByMs))
}

/** Returns the target once it is ready, and dense when nothing serves or the serving set blocks its successor. */
function planActivation(
  target: WeightSetName,
  held: ReadonlyMap<number, HeldWeightSet>,
  activeVersion: number | null,
): number | null {
  const isReady = (name: WeightSetName) => {
    const set = held.get(name.version)
    return set !== undefined && set.state === 'ready' && isSameSet(set, name)
  }
  if (isReady(target)) return target.version === activeVersion ? null : target.version
  const active = activeVersion === null ? undefined : held.get(activeVersion)
  const isBlocked = active !== undefined && blocks(active, target)
  if ((activeVersion === null || isBlocked) && isReady(DENSE)) return DENSE.version
  return null
}

/** Returns whether a set must be released before another one of its version can be loaded. */
function blocks(set: WeightSetName, successor: WeightSetName): boolean {
  return set.version === successor.version && !isSameSet(set, successor)
}

function isSameSet(a: WeightSetName, b: WeightSetName): boolean {
  return a.version === b.version && a.sha256 === b.sha256
}

function uniqueByVersion(names: readonly WeightSetName[]): WeightSetName[] {
  return names.filter((name, index) => names.findIndex((other) => other.version === name.version) === index)
}
