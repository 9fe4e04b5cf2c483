import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import type { Trials } from '../../contracts/trial.ts'
import type { BreakerState } from './circuit-breaker.ts'
import {
  createNode,
  isDraining,
  isReady,
  registered,
  replacedBy,
  toRecord,
  toView,
  wasRestarted,
  type Node,
  type NodeRecord,
} from './fleet-node.ts'

/** The nodes of the fleet as their heartbeats describe them, and what they offer together. */
export class FleetNodes {
  readonly #policy: FleetPolicy
  readonly #nodes = new Map<string, Node>()

  constructor(policy: FleetPolicy) {
    this.#policy = policy
  }

  /**
   * Registers or renews a node.
   *
   * @param desiredVersion the version that its model must be served with; undefined if it is not available now
   * @returns undefined if the desired version is needed, because the node or its weights are new
   */
  renew(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    nowMs: number,
    trials: Trials,
  ): { node: Node; isRestarted: boolean } | undefined {
    const known = this.#nodes.get(heartbeat.nodeId)
    const isSame = known?.heartbeat.model.baseSha256 === heartbeat.model.baseSha256
    const desired = desiredVersion ?? (isSame ? known?.desiredVersion : undefined)
    if (desired === undefined) return undefined
    const before = isSame ? registered(known, heartbeat) : {}
    const isRestarted = known !== undefined && wasRestarted(known.heartbeat, heartbeat)
    const {
      prefixes,
      requests: _requests,
      shadows: _shadows,
      probes: _probes,
      jobs: _jobs,
      ...kept
    } = heartbeat
    const report = {
      heartbeat: {
        ...kept,
        methods: heartbeat.methods ?? before.methods,
        device: heartbeat.device ?? before.device,
      },
      desiredVersion: desired,
      trials: desiredVersion === undefined ? (known?.trials ?? {}) : trials,
      drained: known !== undefined && known.drained && !isRestarted,
      seenAtMs: nowMs,
      denseBytes: heartbeat.weightSets.find(({ version }) => version === 0)?.bytes ?? before.denseBytes,
      replacedProcesses: replacedBy(known, heartbeat),
    }
    const node = known ?? createNode(report)
    const previousHeartbeatMs = known?.seenAtMs ?? -Infinity
    Object.assign(node, { ...report, previousHeartbeatMs, suspect: false, atCapacity: false })
    if (isRestarted) node.prefixes.forgetDispatched()
    node.prefixes.update(prefixes, node.leases, nowMs)
    this.#nodes.set(heartbeat.nodeId, node)
    return { node, isRestarted }
  }

  /** Restores a node, without its leases, from the record that {@link record} returned. */
  restore(record: NodeRecord): Node {
    const { leases: _, ...report } = record
    const node = createNode({ trials: {}, drained: false, replacedProcesses: [], ...report })
    this.#nodes.set(report.heartbeat.nodeId, node)
    return node
  }

  /** Returns the record to store of a node. */
  record(nodeId: string): NodeRecord | undefined {
    const node = this.#nodes.get(nodeId)
    return node && toRecord(node)
  }

  forget(nodeId: string): void {
    this.#nodes.delete(nodeId)
  }

  get size(): number {
    return this.#nodes.size
  }

  find(nodeId: string): Node | undefined {
    return this.#nodes.get(nodeId)
  }

  all(): Node[] {
    return [...this.#nodes.values()]
  }

  ofModel(model: string): Node[] {
    return this.all().filter(({ heartbeat }) => heartbeat.model.id === model)
  }

  isAlive(node: Node, nowMs: number): boolean {
    return nowMs - node.seenAtMs < this.#policy.silentMs && !node.suspect && !node.heartbeat.leaving
  }

  /** Returns the nodes of a model that are alive. */
  alive(model: string, nowMs: number): Node[] {
    return this.ofModel(model).filter((node) => this.isAlive(node, nowMs))
  }

  /** Returns the nodes that could serve a request if they were not full and their breakers allowed it. */
  able(model: string, version: number | undefined, nowMs: number): Node[] {
    return this.alive(model, nowMs).filter((node) => !isDraining(node) && isReady(node.heartbeat, version))
  }

  /** Returns whether a node of a model was seen recently and may return. */
  mayReturn(model: string, nowMs: number): boolean {
    return this.ofModel(model).some(
      ({ heartbeat, seenAtMs }) => !heartbeat.leaving && nowMs - seenAtMs < this.#policy.deadMs,
    )
  }

  /** Returns the models that nodes serve now, sorted. */
  servedModels(nowMs: number): string[] {
    const alive = this.all().filter((node) => this.isAlive(node, nowMs))
    return [...new Set(alive.map(({ heartbeat }) => heartbeat.model.id))].sort()
  }

  /**
   * Returns whether a heartbeat comes from a process that another process replaced under the same name: two nodes use one
   * secret.
   */
  isReplaced({ nodeId, process }: Heartbeat): boolean {
    return process !== undefined && this.#nodes.get(nodeId)?.replacedProcesses.includes(process) === true
  }

  /**
   * Stops new requests to a node, or allows them again. Running requests continue.
   *
   * @returns false if the node is unknown
   */
  drain(nodeId: string, drained: boolean): boolean {
    const node = this.#nodes.get(nodeId)
    if (node) node.drained = drained
    return node !== undefined
  }

  /** Returns whether the operator drains a node. */
  isDrained(nodeId: string): boolean {
    return this.#nodes.get(nodeId)?.drained ?? false
  }

  /** Returns all remembered nodes, sorted by id. */
  snapshot(nowMs: number): FleetSnapshot {
    const nodes = this.all().map((node) => toView(node, this.isAlive(node, nowMs), nowMs))
    return { nodes: nodes.sort((a, b) => (a.id < b.id ? -1 : 1)) }
  }

  /** Returns the state of every node's circuit breaker. */
  breakerStates(nowMs: number): { node: string; model: string; state: BreakerState }[] {
    return Array.from(this.#nodes, ([node, { heartbeat, breakers }]) => ({
      node,
      model: heartbeat.model.id,
      state: breakers.state(nowMs),
    }))
  }

  /**
   * Returns the pruning methods that the nodes of a model offer, sorted.
   *
   * @returns null if no node of the model that has registered its methods is alive
   */
  offeredMethods(model: string, nowMs: number): string[] | null {
    const offers = this.alive(model, nowMs).flatMap(({ heartbeat }) =>
      heartbeat.methods ? [heartbeat.methods] : [],
    )
    return offers.length === 0 ? null : [...new Set(offers.flat())].sort()
  }

  /** Returns the pruning methods that a node offers; undefined until it registers them. */
  methodsOf(nodeId: string): readonly string[] | undefined {
    return this.#nodes.get(nodeId)?.heartbeat.methods
  }

  /** Returns a model's maximum of prompt and output tokens together; undefined if no node of it is known. */
  contextLengthOf(model: string): number | undefined {
    return this.ofModel(model)[0]?.heartbeat.model.contextLength
  }
}
