import { failedToLoad } from './failed-to-load.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import type { ModelState } from '../../storage/db/queries/model-queries.ts'

/**
 * The share of the nodes that load a mask at once after the first. A load takes processor time, memory and network from
 * serving, and a mask that only some nodes cannot load must not occupy the fleet. With a quarter, a fleet of any size has its
 * new mask after five waves.
 */
const SURGE_SHARE = 0.25

/** Returns how many nodes may load a mask at once: one until a node serves it, because nothing else shows that it loads. */
function maxLoading(nodes: number, isProven: boolean): number {
  return isProven ? Math.max(1, Math.ceil(SURGE_SHARE * nodes)) : 1
}

/** Returns the number of waves after the first node, at least one, which is the one of a single node. */
export function countWaves(nodes: number): number {
  return Math.max(1, Math.ceil((nodes - 1) / maxLoading(nodes, true)))
}

/**
 * Nodes that fail to load a mask without keeping another node from trying: the cause may be the node, such as a full disk. A mask
 * that two nodes cannot load has its cause in the mask, so that it must not reach others.
 */
const MAX_FAULTY_NODES = 1

/** How many nodes must fail to load a mask before it counts as one that cannot be loaded; all of fewer nodes. */
export const UNLOADABLE_NODES = MAX_FAULTY_NODES + 1

/** A node's report on its weights. */
type Report = Pick<NodeView, 'activeVersion' | 'weightSets' | 'memory'>

/** Returns whether a node serves a version, holds it, or tries to. */
function hasBegun({ activeVersion, weightSets }: Report, version: number): boolean {
  return activeVersion === version || weightSets.some((set) => set.version === version)
}

/** Returns whether a node is to hold a version, and has no memory for it now. It loads it once it has. */
function hasNoRoom({ memory }: Report, version: number): boolean {
  return memory?.unheld.some((set) => set.version === version) ?? false
}

const IS_DONE = {
  /** The roll-out of the active mask. */
  serve: ({ activeVersion }, version) => activeVersion === version,
  /** The load of a mask on trial. */
  hold: ({ weightSets }, version) =>
    weightSets.some((set) => set.version === version && set.state === 'ready'),
} satisfies Record<string, (node: Report, version: number) => boolean>

/**
 * Returns whether a node takes part in the roll-out of a version by now. Pure: it follows from the reports of the nodes alone,
 * so that every caller decides alike, also after a restart.
 *
 * A node that has begun goes on. One that failed to load the version goes on trying, and another node gets its place; all further
 * ones keep theirs, so that a mask that cannot be loaded stops by itself. A node that is gone frees its place, and so does one that
 * has no memory for a mask on trial, or waits for it: it loads nothing. The others follow in the order of their names.
 *
 * @param nodes the nodes of the model
 * @param to what the nodes are to do with the version
 */
export function takesPart(
  nodeId: string,
  nodes: readonly NodeView[],
  version: number,
  to: keyof typeof IS_DONE = 'serve',
): boolean {
  // A node always loads the mask that it is to serve.
  const mustPass = (node: NodeView) => to === 'hold' && hasNoRoom(node, version)
  if (nodes.some((node) => node.id === nodeId && (hasBegun(node, version) || mustPass(node)))) return true
  const live = nodes.filter((node) => node.alive && !node.draining && !mustPass(node))
  const done = live.filter((node) => IS_DONE[to](node, version))
  const begun = live.filter((node) => hasBegun(node, version))
  const faulty = begun.filter((node) => !done.includes(node) && failedToLoad(node.weightSets, version))
  const places = maxLoading(live.length, done.length > 0) + Math.min(MAX_FAULTY_NODES, faulty.length)
  const free = places - (begun.length - done.length)
  const waiting = live
    .filter((node) => !begun.includes(node))
    .map(({ id }) => id)
    .sort()
  return waiting.slice(0, Math.max(0, free)).includes(nodeId)
}

/**
 * Returns the masks that a node must serve and hold now. While a mask is rolled out, nodes whose turn has not come go on with
 * the mask that it replaces; a mask on trial they do not hold yet. After a roll-back no mask is rolled out, and all nodes
 * return at once.
 */
export async function desiredFor(
  deps: Pick<Deps, 'fleet'>,
  report: Pick<Heartbeat, 'nodeId' | 'activeVersion' | 'weightSets' | 'memory'>,
  { model, desired, isRollingOut }: ModelState,
): Promise<HeartbeatResponse['desired']> {
  const { trials = [] } = desired
  const mustWait = isRollingOut && !hasBegun(report, model.activeVersion)
  const isNew = ({ version }: { version: number }) =>
    !hasBegun(report, version) && !hasNoRoom(report, version)
  // Most nodes have begun, and need not ask for the others.
  if (!mustWait && !trials.some(isNew)) return desired
  const { nodes } = await deps.fleet.snapshot()
  const own = nodes.filter((node) => node.model === model.id)
  const held = trials.filter(({ version }) => takesPart(report.nodeId, own, version, 'hold'))
  const { trials: _, ...others } = desired
  const allowed = { ...others, ...(held.length > 0 ? { trials: held } : {}) }
  if (!mustWait || takesPart(report.nodeId, own, model.activeVersion)) return allowed
  return { ...allowed, active: desired.previous, previous: null }
}
