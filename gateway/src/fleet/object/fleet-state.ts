import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { isAssigned } from './trial-assignment.ts'
import type { Trials } from '../../contracts/trial.ts'
import type { Acquired, AcquireRequest, FailedAttempt, NoNode } from '../../contracts/acquire.ts'
import type { Lease, LeaseView } from '../../contracts/lease.ts'
import { Leases } from './leases.ts'
import {
  isDraining,
  isReady,
  nodeOf,
  readyVersions,
  recordOf,
  room,
  viewOf,
  registeredMethods,
  wasRestarted,
  type Node,
  type NodeRecord,
} from './fleet-node.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import { pickNode, type Candidate } from './node-picker.ts'
import { DEFAULT_POLICY } from './policy-variables.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'

/** Silence after which a node is forgotten altogether. */
export const FORGET_MS = 600_000
/** When to come back where nothing better is known: two heartbeats and a bit, a node that was restarted is back then. */
const RETRY_AFTER_MS = 5_000

/**
 * Nodes and leases, without input, output or a clock of its own.
 *
 * A node's load is what it reported last plus the requests on their way to it: those leased that no heartbeat has named,
 * until one composed `connectMs` after the lease has not either. So no heartbeat makes a node look idle that just got
 * something, and what was lost on its way does not make it look busy for long.
 */
export class FleetState {
  readonly #policy: FleetPolicy
  readonly #nodes = new Map<string, Node>()
  readonly #leases: Leases
  /** Running mean of how long requests of a model take. */
  readonly #meanMs = new Map<string, number>()
  /** The last heartbeat or sweep. */
  #heardAtMs = -Infinity
  /** Since when there was no gap between those that a node could have died in unheard. */
  #listeningSinceMs = -Infinity

  constructor(policy: FleetPolicy = DEFAULT_POLICY) {
    this.#policy = policy
    this.#leases = new Leases(policy)
  }

  /**
   * Registers or renews a node; `desiredVersion` is what its model shall be served with, beside what is on trial;
   * undefined when nobody can tell now.
   *
   * @returns false when that must be known: the node, or its weights, were not seen before
   */
  heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    nowMs: number,
    trials: Trials = {},
  ): boolean {
    this.#listen(nowMs)
    const known = this.#nodes.get(heartbeat.nodeId)
    const isSame = known?.heartbeat.model.baseSha256 === heartbeat.model.baseSha256
    const desired = desiredVersion ?? (isSame ? known?.desiredVersion : undefined)
    if (desired === undefined) return false
    const methods = heartbeat.methods ?? (isSame ? registeredMethods(known, heartbeat) : undefined)
    const told = {
      heartbeat: { ...heartbeat, ...(methods ? { methods } : {}) },
      desiredVersion: desired,
      trials: desiredVersion === undefined ? (known?.trials ?? {}) : trials,
      drained: known !== undefined && known.drained && !wasRestarted(known.heartbeat, heartbeat),
      seenAtMs: nowMs,
    }
    const node = known ?? nodeOf(told)
    if (known && known.heartbeat.process !== heartbeat.process) node.replaced = known.heartbeat.process
    const composedAfterMs = known?.seenAtMs ?? -Infinity
    Object.assign(node, { ...told, composedAfterMs, suspect: false, refusing: false })
    node.prefixes.tell(heartbeat.prefixes, nowMs)
    this.#nodes.set(heartbeat.nodeId, node)
    for (const progress of heartbeat.requests) this.#leases.renew(node, progress, nowMs)
    return true
  }

  /**
   * Whether a heartbeat comes from a process that another of its name took over from: it was not restarted, there are two
   * nodes with one secret.
   */
  isReplaced({ nodeId, process }: Heartbeat): boolean {
    return process !== undefined && this.#nodes.get(nodeId)?.replaced === process
  }

  /** Leases the best node for a request that waits since `sinceMs`. */
  acquire(request: AcquireRequest, nowMs: number, sinceMs = nowMs): Acquired {
    // The same attempt asks again when its answer was lost.
    this.release([request.requestId])
    const candidates = this.#candidates(request, nowMs)
    const placement = {
      ...request,
      exclude: request.exclude.filter((id) => (this.#nodes.get(id)?.seenAtMs ?? 0) <= sinceMs),
      desiredVersion: this.#newest(request.model)?.desiredVersion ?? 0,
      spillover: this.#policy.spillover,
    }
    // No request waits for a canary, or fails by it: where none is free, or it failed, the active mask answers.
    const canary = request.exclude.length === 0 ? this.#canaryOf(request) : undefined
    const onTrial = canary === undefined ? undefined : pickNode(candidates, { ...placement, version: canary })
    const picked = onTrial ?? pickNode(candidates, placement)
    const maskVersion = request.version ?? (onTrial ? canary : picked?.activeVersion)
    if (!picked || maskVersion === undefined) return this.noNode(request, nowMs)
    const { node } = picked
    const { requestId, model, domain, account, tenant, promptTokens } = request
    node.breaker.sent(requestId)
    node.prefixes.place(maskVersion, request.prefix ?? [], nowMs)
    this.#leases.hold(node, {
      requestId,
      nodeId: node.heartbeat.nodeId,
      model,
      domain,
      ...(account === undefined ? {} : { account }),
      ...(tenant === undefined ? {} : { tenant }),
      maskVersion,
      promptTokens,
      completionTokens: 0,
      acquiredAtMs: nowMs,
      named: false,
      progressAtMs: nowMs,
      expiresAtMs: nowMs + this.#policy.leaseMs,
    })
    const { nodeId, url } = node.heartbeat
    const shadow = maskVersion === placement.desiredVersion ? this.#shadowOf(request, node) : undefined
    return {
      ok: true,
      nodeId,
      url,
      maskVersion,
      ...(onTrial ? { pinned: true } : {}),
      ...(shadow === undefined ? {} : { shadow }),
    }
  }

  /**
   * Has a node take no new requests, or take them again; what runs on it goes on.
   *
   * @returns false for a node that is not known
   */
  drain(nodeId: string, drained: boolean): boolean {
    const node = this.#nodes.get(nodeId)
    if (node) node.drained = drained
    return node !== undefined
  }

  /** Whether the operator drains a node. */
  isDrained(nodeId: string): boolean {
    return this.#nodes.get(nodeId)?.drained ?? false
  }

  /** Why a request of a model gets no node now. */
  noNode({ model, version }: Pick<AcquireRequest, 'model' | 'version'>, nowMs: number): NoNode {
    const nodes = [...this.#nodes.values()]
    const own = nodes.filter(({ heartbeat }) => heartbeat.model.id === model)
    const able = this.#able(model, version, nowMs)
    const open = able.filter(({ breaker }) => breaker.allows(nowMs))
    const alive = nodes.filter((node) => this.#isAlive(node, nowMs))
    const againMs = able.flatMap(({ breaker }) => breaker.opensAgainMs() ?? [])
    return {
      ok: false,
      reason: own.length === 0 ? 'unknown' : open.length === 0 ? 'absent' : 'full',
      retryAfterMs: againMs.length > 0 ? Math.max(0, Math.min(...againMs) - nowMs) : RETRY_AFTER_MS,
      servedModels: [...new Set(alive.map(({ heartbeat }) => heartbeat.model.id))].sort(),
    }
  }

  /** Ends the lease of a failed attempt; a node that broke or refused takes nothing until its next heartbeat. */
  fail({ requestId, nodeId, how }: FailedAttempt, nowMs: number): void {
    const node = this.#nodes.get(nodeId)
    if (node) {
      if (how === 'broke' || how === 'cut') node.suspect = true
      if (how === 'full') node.refusing = true
      if (how !== 'refused') node.prefixes.forgetPlaced()
      if (how === 'broke' || how === 'cut' || how === 'failed') node.breaker.failed(requestId, nowMs)
    }
    if (how !== 'cut') this.release([requestId])
  }

  /** A node has done a request: it can. */
  succeeded(requestId: string, nowMs: number): void {
    const found = this.#leases.find(requestId)
    if (!found) return
    const { node, lease } = found
    node.breaker.succeeded()
    const tookMs = nowMs - lease.acquiredAtMs
    const mean = this.#meanMs.get(lease.model) ?? tookMs
    this.#meanMs.set(lease.model, mean + 0.1 * (tookMs - mean))
  }

  /** Ends leases whose requests are settled; unknown ones are left alone. */
  release(requestIds: readonly string[]): void {
    this.#leases.release(requestIds)
  }

  /** Requests of a tenant that have a node. */
  running(tenant: string): number {
    return this.#leases.running(tenant)
  }

  /** How long it takes until `ended` requests for some weights have ended, by the mean of what ended; 0 when nothing has. */
  waitMs(
    { model, version }: Pick<AcquireRequest, 'model' | 'version'>,
    ended: number,
    nowMs: number,
  ): number {
    const slots = this.#able(model, version, nowMs).reduce(
      (sum, { heartbeat }) => sum + (heartbeat.load.slots ?? Infinity),
      0,
    )
    return slots === 0 ? 0 : (ended * (this.#meanMs.get(model) ?? 0)) / slots
  }

  /** Whether a node of a model that is away now was there lately, and may come back. */
  mayReturn(model: string, nowMs: number): boolean {
    return [...this.#nodes.values()].some(
      ({ heartbeat, seenAtMs }) =>
        heartbeat.model.id === model && !heartbeat.leaving && nowMs - seenAtMs < this.#policy.deadMs,
    )
  }

  /** The node of a request answers, though it is not heard of: its lease goes on. */
  touch(requestId: string, nowMs: number): void {
    this.#leases.touch(requestId, nowMs)
  }

  /** How a leased request is; undefined when it is settled, or was never leased. */
  look(requestId: string, nowMs: number): LeaseView | undefined {
    return this.#leases.look(requestId, nowMs)
  }

  /**
   * The leases that expired, to be settled and released, and the nodes long gone that hold none: their ids are
   * `forgotten`.
   *
   * Silence while the fleet itself was away (its gateway down, its machine asleep) is nobody's: after it, every
   * node has the time of a dead one to be heard with its receipts.
   */
  expire(nowMs: number): { leases: Lease[]; forgotten: string[] } {
    this.#listen(nowMs)
    const graceEndsMs = this.#listeningSinceMs + this.#policy.deadMs
    const expired: Lease[] = []
    const forgotten: string[] = []
    for (const [id, node] of this.#nodes) {
      const { leaving } = node.heartbeat
      for (const lease of node.leases.values()) {
        const thereAtMs = Math.max(node.seenAtMs, lease.answeredAtMs ?? -Infinity)
        const isDead = leaving || nowMs >= Math.max(thereAtMs + this.#policy.deadMs, graceEndsMs)
        if (isDead || nowMs >= Math.max(lease.expiresAtMs, graceEndsMs)) expired.push(lease)
      }
      if ((leaving || nowMs - node.seenAtMs >= FORGET_MS) && node.leases.size === 0) {
        this.#nodes.delete(id)
        forgotten.push(id)
      }
    }
    return { leases: expired, forgotten }
  }

  /** True while there is nothing that could expire. */
  get empty(): boolean {
    return this.#nodes.size === 0
  }

  snapshot(nowMs: number): FleetSnapshot {
    const nodes = [...this.#nodes.values()].map((node) => viewOf(node, this.#isAlive(node, nowMs), nowMs))
    return { nodes: nodes.sort((a, b) => (a.id < b.id ? -1 : 1)) }
  }

  /**
   * The pruning methods that some node of a model can choose masks by, sorted.
   *
   * @returns null when no node of the model is alive that could tell
   */
  offeredMethods(model: string, nowMs: number): string[] | null {
    const offers = [...this.#nodes.values()]
      .filter((node) => node.heartbeat.model.id === model && this.#isAlive(node, nowMs))
      .flatMap(({ heartbeat }) => (heartbeat.methods ? [heartbeat.methods] : []))
    return offers.length === 0 ? null : [...new Set(offers.flat())].sort()
  }

  /** The pruning methods that a node offers; undefined where it has not registered them. */
  methodsOf(nodeId: string): readonly string[] | undefined {
    return this.#nodes.get(nodeId)?.heartbeat.methods
  }

  /** Tokens of prompt and answer together that a model takes; undefined when no node of it was heard of. */
  contextLengthOf(model: string): number | undefined {
    for (const { heartbeat } of this.#nodes.values())
      if (heartbeat.model.id === model) return heartbeat.model.contextLength
    return undefined
  }

  /** The version that would answer a key now; undefined when no node of the model is known. */
  versionFor(model: string, account: string, nowMs: number): number | undefined {
    const canary = this.#canaryOf({ model, account })
    const isHeld = [...this.#nodes.values()].some(
      (node) =>
        node.heartbeat.model.id === model &&
        this.#isAlive(node, nowMs) &&
        canary !== undefined &&
        isReady(node.heartbeat, canary),
    )
    return isHeld ? canary : this.#newest(model)?.desiredVersion
  }

  /** The lease of a request; undefined when it is settled, or was never leased. */
  leaseOf(requestId: string): Lease | undefined {
    return this.#leases.find(requestId)?.lease
  }

  /** What to keep of a node. */
  record(nodeId: string): NodeRecord | undefined {
    const node = this.#nodes.get(nodeId)
    return node && recordOf(node)
  }

  /** Takes back what {@link record} gave. */
  restore({ leases, ...told }: NodeRecord): void {
    const node = nodeOf({ trials: {}, drained: false, ...told })
    this.#nodes.set(told.heartbeat.nodeId, node)
    for (const lease of leases) this.#leases.hold(node, lease)
  }

  #candidates({ priority, prefix = [] }: AcquireRequest, nowMs: number): (Candidate & { node: Node })[] {
    return [...this.#nodes.values()].map((node) => {
      const { heartbeat } = node
      const { load, nodeId } = heartbeat
      const busy = load.running + load.waiting + this.#leases.sent(node)
      return {
        id: nodeId,
        model: heartbeat.model.id,
        alive: this.#isAlive(node, nowMs) && node.breaker.allows(nowMs),
        draining: isDraining(node),
        activeVersion: isReady(heartbeat) ? heartbeat.activeVersion : undefined,
        readyVersions: readyVersions(heartbeat),
        load: busy,
        // Receipts come sooner than heartbeats, and leases may outlive their requests: what is less is true.
        full: node.refusing || Math.min(busy, node.leases.size) >= room(load.slots, priority),
        cachedOn: (version) => node.prefixes.matched(version, prefix, nowMs),
        node,
      }
    })
  }

  /** Nodes that could answer a request, if they had room and their breakers let them. */
  #able(model: string, version: number | undefined, nowMs: number): Node[] {
    return [...this.#nodes.values()].filter(
      (node) =>
        node.heartbeat.model.id === model &&
        this.#isAlive(node, nowMs) &&
        !isDraining(node) &&
        isReady(node.heartbeat, version),
    )
  }

  #isAlive(node: Node, nowMs: number): boolean {
    return nowMs - node.seenAtMs < this.#policy.silentMs && !node.suspect && !node.heartbeat.leaving
  }

  #listen(nowMs: number): void {
    if (nowMs - this.#heardAtMs >= this.#policy.deadMs) this.#listeningSinceMs = nowMs
    this.#heardAtMs = nowMs
  }

  /** The node of a model that was heard last: it had the newest answer from D1. */
  #newest(model: string): Node | undefined {
    let newest: Node | undefined
    for (const node of this.#nodes.values()) {
      if (node.heartbeat.model.id === model && (!newest || node.seenAtMs >= newest.seenAtMs)) newest = node
    }
    return newest
  }

  /** The version on trial that shall answer a request's key. */
  #canaryOf({ model, version, account }: Pick<AcquireRequest, 'model' | 'version' | 'account'>) {
    const canary = this.#newest(model)?.trials.canary
    const isOne =
      canary && version === undefined && account !== undefined && isAssigned('canary', canary, model, account)
    return isOne ? canary.version : undefined
  }

  /** The version on trial that a node shall score a request's answer under. */
  #shadowOf({ model, version, requestId }: AcquireRequest, node: Node): number | undefined {
    const shadow = this.#newest(model)?.trials.shadow
    const isOne =
      shadow &&
      version === undefined &&
      isReady(node.heartbeat, shadow.version) &&
      isAssigned('shadow', shadow, model, requestId)
    return isOne ? shadow.version : undefined
  }
}
