import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { Trials } from '../../contracts/trial.ts'
import type { Priority } from '../../contracts/acquire.ts'
import { NodeBreakers } from './node-breakers.ts'
import { PrefixIndex } from './prefix-index.ts'
import type { Lease } from '../../contracts/lease.ts'
import type { NodeView } from '../../contracts/node-view.ts'

/** Replaced processes of a node that are remembered. */
const MAX_REPLACED = 16

/** The fields of a heartbeat that are stored until the next one. The others may be long, and are used only when it arrives. */
export type KeptHeartbeat = Omit<Heartbeat, 'prefixes' | 'requests' | 'shadows' | 'probes' | 'jobs'>

/** The last report of a node and its desired state, which survive a restart of the Durable Object. */
interface NodeReport {
  heartbeat: KeptHeartbeat
  /** The mask version that its model must be served with, from D1. */
  desiredVersion: number
  /** The trials of its model. */
  trials: Trials
  /** The operator drains it: it gets no new requests until it is undrained or restarts. */
  drained: boolean
  /** When its last heartbeat arrived. */
  seenAtMs: number
  /** Bytes of the dense weights in its precision, since its process reported them last: it need not hold them any more. */
  denseBytes?: number | undefined
  /** The processes that later ones have replaced under the same name, the latest last. */
  replacedProcesses: readonly string[]
}

/** The state of a node in the fleet. */
export interface Node extends NodeReport {
  readonly breakers: NodeBreakers
  readonly prefixes: PrefixIndex
  /** When the heartbeat before the last arrived. A node awaits each reply, so it composed the last one after that time. */
  previousHeartbeatMs: number
  /** A connection to it broke after its last heartbeat. */
  suspect: boolean
  /** It rejected a request as full after its last heartbeat. */
  atCapacity: boolean
  readonly leases: Map<string, Lease>
}

/** The stored record of one node. */
export interface NodeRecord extends Omit<NodeReport, 'trials' | 'drained' | 'replacedProcesses'> {
  /** Left out in records that are older than trials. */
  trials?: Trials
  drained?: boolean
  replacedProcesses?: readonly string[]
  /** The latest time that it has signed a call. Left out in older records. */
  signedAtMs?: number
  leases: Lease[]
}

/** Creates the state of a node that no request was sent to yet. */
export function createNode(report: NodeReport): Node {
  return {
    ...report,
    breakers: new NodeBreakers(),
    prefixes: new PrefixIndex(),
    previousHeartbeatMs: -Infinity,
    suspect: false,
    atCapacity: false,
    leases: new Map(),
  }
}

/** Returns the record to store of a node. */
export function toRecord(node: Node): NodeRecord {
  const { heartbeat, desiredVersion, trials, drained, seenAtMs, denseBytes, replacedProcesses, leases } = node
  const report = { heartbeat, desiredVersion, trials, drained, seenAtMs, denseBytes, replacedProcesses }
  return { ...report, leases: [...leases.values()] }
}

/** Returns a node as the admin API and metrics show it. */
export function toView(node: Node, alive: boolean, nowMs: number): NodeView {
  const { heartbeat } = node
  const { running, waiting, kvTokensUsed, kvTokensTotal, tokensPerSecond } = heartbeat.load
  return {
    id: heartbeat.nodeId,
    url: heartbeat.url,
    model: heartbeat.model.id,
    alive,
    draining: isDraining(node),
    drainedByOperator: node.drained,
    serving: alive && !isDraining(node) && isReady(heartbeat),
    activeVersion: heartbeat.activeVersion,
    weightSets: heartbeat.weightSets,
    numerics: heartbeat.numerics,
    memory: heartbeat.memory,
    running,
    waiting,
    kvTokensUsed,
    kvTokensTotal,
    device: heartbeat.device,
    denseBytes: node.denseBytes,
    tokensPerSecond,
    leases: node.leases.size,
    seenMsAgo: nowMs - node.seenAtMs,
  }
}

/**
 * Returns the maximum number of requests on a node: those that it runs, and the same number of waiting interactive ones,
 * so that no slot is idle while its next request is on its way. Further requests wait in the fleet's fair queue.
 */
export function maxRequests(slots: number | undefined, priority: Priority | undefined): number {
  if (slots === undefined) return Infinity
  return priority === 'batch' ? slots : 2 * slots
}

/** Returns whether a node takes no new requests, because it shuts down or the operator drains it. */
export function isDraining({ heartbeat, drained }: Pick<Node, 'heartbeat' | 'drained'>): boolean {
  return heartbeat.draining || drained
}

/** Returns whether requests can start on a version, by default the active one. */
export function isReady(heartbeat: KeptHeartbeat, version = heartbeat.activeVersion): boolean {
  return readyVersions(heartbeat).includes(version)
}

/** Returns the versions that requests can start on, from a heartbeat. */
export function readyVersions({ weightSets }: Pick<Heartbeat, 'weightSets'>): number[] {
  return weightSets.filter(({ state }) => state === 'ready').map(({ version }) => version)
}

/** Returns whether a node restarted between two heartbeats, after it shut down or was killed. */
export function wasRestarted(before: KeptHeartbeat, after: KeptHeartbeat): boolean {
  return before.leaving || before.process !== after.process
}

/** Returns the processes that a heartbeat's and earlier ones have replaced under its name, the latest last. */
export function replacedBy(
  known: Pick<Node, 'heartbeat' | 'replacedProcesses'> | undefined,
  { process }: Heartbeat,
): readonly string[] {
  if (!known) return []
  const { heartbeat: before, replacedProcesses: earlier } = known
  if (before.process === undefined || before.process === process) return earlier
  return [...earlier, before.process].slice(-MAX_REPLACED)
}

/**
 * Returns what the process of a heartbeat has reported before, and does not repeat: its pruning methods, its device, and the bytes
 * of dense weights that it no longer holds.
 */
export function registered(
  known: Pick<Node, 'heartbeat' | 'denseBytes'> | undefined,
  heartbeat: Heartbeat,
): Pick<Heartbeat, 'methods' | 'device'> & Pick<NodeReport, 'denseBytes'> {
  if (!known || wasRestarted(known.heartbeat, heartbeat)) return {}
  const { methods, device } = known.heartbeat
  return { methods, device, denseBytes: known.denseBytes }
}
