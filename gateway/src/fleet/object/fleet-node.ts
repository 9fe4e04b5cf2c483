import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { Trials } from '../../contracts/trial.ts'
import type { Priority } from '../../contracts/acquire.ts'
import { CircuitBreaker } from './circuit-breaker.ts'
import { PrefixIndex } from './prefix-index.ts'
import type { Lease } from '../../contracts/lease.ts'
import type { NodeView } from '../../contracts/node-view.ts'

/** What a node told last, and what is to be kept of it over a restart of the Durable Object. */
interface Told {
  heartbeat: Heartbeat
  /** What D1 says that its model shall be served with. */
  desiredVersion: number
  /** Masks on trial for its model. */
  trials: Trials
  /** The operator drains it: it takes no new requests until it is undrained, or started again. */
  drained: boolean
  /** When its last heartbeat came. */
  seenAtMs: number
}

/** A node as the fleet knows it. */
export interface Node extends Told {
  readonly breaker: CircuitBreaker
  readonly prefixes: PrefixIndex
  /** When the heartbeat before its last came: a node waits for each to be answered, so the last was composed after it. */
  composedAfterMs: number
  /** A request failed on it after its last heartbeat. */
  suspect: boolean
  /** The process of this name that its present one took over from. */
  replaced: string | undefined
  /** It refused a request after its last heartbeat, since it had enough. */
  refusing: boolean
  readonly leases: Map<string, Lease>
}

/** What is kept of one node over a restart of the Durable Object. */
export interface NodeRecord extends Omit<Told, 'trials' | 'drained'> {
  /** Left out in records from before there were trials. */
  trials?: Trials
  drained?: boolean
  leases: Lease[]
}

/** A node that nothing was sent to yet. */
export function nodeOf(told: Told): Node {
  return {
    ...told,
    breaker: new CircuitBreaker(),
    prefixes: new PrefixIndex(),
    composedAfterMs: -Infinity,
    suspect: false,
    replaced: undefined,
    refusing: false,
    leases: new Map(),
  }
}

/** What to keep of a node. */
export function recordOf(node: Node): NodeRecord {
  const { desiredVersion, trials, drained, seenAtMs, leases } = node
  // The next heartbeat tells its prefixes again: they are not worth a write every two seconds.
  const { prefixes: _, ...heartbeat } = node.heartbeat
  return { heartbeat, desiredVersion, trials, drained, seenAtMs, leases: [...leases.values()] }
}

/** A node as people and metrics see it. */
export function viewOf(node: Node, alive: boolean, nowMs: number): NodeView {
  const { heartbeat } = node
  const { running, waiting, kvTokensUsed, kvTokensTotal } = heartbeat.load
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
    running,
    waiting,
    kvTokensUsed,
    kvTokensTotal,
    leases: node.leases.size,
    seenMsAgo: nowMs - node.seenAtMs,
  }
}

/**
 * Requests that a node shall have: those that it runs, and for interactive ones as many that wait there, so that a
 * slot never idles while its next request is on its way. What is more waits in the fleet's line, which is fair.
 */
export function room(slots: number | undefined, priority: Priority | undefined): number {
  if (slots === undefined) return Infinity
  return priority === 'batch' ? slots : 2 * slots
}

/** It takes no new requests, by its own word or the operator's. */
export function isDraining({ heartbeat, drained }: Pick<Node, 'heartbeat' | 'drained'>): boolean {
  return heartbeat.draining || drained
}

/** Whether requests can start on a version, or else on the active one. */
export function isReady(heartbeat: Heartbeat, version = heartbeat.activeVersion): boolean {
  return readyVersions(heartbeat).includes(version)
}

/** Versions that requests can start on, as the heartbeat tells. */
export function readyVersions({ weightSets }: Pick<Heartbeat, 'weightSets'>): number[] {
  return weightSets.filter(({ state }) => state === 'ready').map(({ version }) => version)
}

/** Whether a node was started again between two heartbeats: it had left, or was killed. */
export function wasRestarted(before: Heartbeat, after: Heartbeat): boolean {
  return before.leaving || before.process !== after.process
}

/** The pruning methods that the process of a heartbeat registered before. */
export function registeredMethods(
  known: Pick<Node, 'heartbeat'> | undefined,
  heartbeat: Heartbeat,
): Heartbeat['methods'] {
  return known && !wasRestarted(known.heartbeat, heartbeat) ? known.heartbeat.methods : undefined
}
