import type { Heartbeat, RequestProgress } from '@copal/shared/wire/node-rpc.ts'
import type { Acquired, AcquireRequest, FailedAttempt, NoNode, Priority } from './acquire.ts'
import { Breaker } from './breaker.ts'
import { CachedPrefixes } from './cached-prefixes.ts'
import type { Lease, LeaseView } from './lease.ts'
import { isChosen, type Trials } from '../trials/trial.ts'
import { pickNode, type Candidate } from './picker.ts'
import type { FleetSnapshot, NodeView } from './node-view.ts'
import { DEFAULT_POLICY, type FleetPolicy } from './policy.ts'

/** Silence after which a node is forgotten altogether. */
export const FORGET_MS = 600_000
/** When to come back where nothing better is known: two heartbeats and a bit, a node that was restarted is back then. */
const RETRY_AFTER_MS = 5_000

/** What is kept of one node over a restart of the Durable Object. */
export interface NodeRecord {
  heartbeat: Heartbeat
  desiredVersion: number
  /** Left out in records from before there were trials. */
  trials?: Trials
  /** The operator drains it. */
  drained?: boolean
  seenAtMs: number
  leases: Lease[]
}

interface Node {
  heartbeat: Heartbeat
  desiredVersion: number
  /** Masks on trial for its model. */
  trials: Trials
  /** The operator drains it: it takes no new requests until it is undrained, or has left. */
  drained: boolean
  seenAtMs: number
  breaker: Breaker
  prefixes: CachedPrefixes
  /** A request failed on it after its last heartbeat. */
  suspect: boolean
  /** It refused a request after its last heartbeat, since it had enough. */
  refusing: boolean
  /** Leases given since its last heartbeat, which its reported load does not hold yet. */
  granted: number
  leases: Map<string, Lease>
}

/**
 * Nodes and leases, without input, output or a clock of its own.
 *
 * A node's load is what it reported last plus the leases given since, so that a lost receipt or a
 * restart never leaves a node looking busy for longer than one heartbeat.
 */
export class FleetState {
  readonly #policy: FleetPolicy
  readonly #nodes = new Map<string, Node>()
  /** Which node holds a lease. */
  readonly #holders = new Map<string, Node>()
  /** Leases by tenant. */
  readonly #running = new Map<string, number>()
  /** Running mean of how long requests of a model take. */
  readonly #meanMs = new Map<string, number>()
  /** The last heartbeat or sweep. */
  #heardAtMs = -Infinity
  /** Since when there was no gap between those that a node could have died in unheard. */
  #listeningSinceMs = -Infinity

  constructor(policy: FleetPolicy = DEFAULT_POLICY) {
    this.#policy = policy
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
    const node: Node = {
      heartbeat,
      desiredVersion: desired,
      trials: desiredVersion === undefined ? (known?.trials ?? {}) : trials,
      // One that left and comes back was started again.
      drained: known !== undefined && known.drained && !known.heartbeat.leaving,
      seenAtMs: nowMs,
      breaker: known?.breaker ?? new Breaker(),
      prefixes: known?.prefixes ?? new CachedPrefixes(),
      suspect: false,
      refusing: false,
      granted: 0,
      leases: known?.leases ?? new Map<string, Lease>(),
    }
    node.prefixes.tell(heartbeat.prefixes, nowMs)
    this.#nodes.set(heartbeat.nodeId, node)
    for (const requestId of node.leases.keys()) this.#holders.set(requestId, node)
    for (const progress of heartbeat.requests) this.#renew(node, progress, nowMs)
    return true
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
    node.granted += 1
    node.breaker.sent(requestId)
    node.prefixes.place(maskVersion, request.prefix ?? [], nowMs)
    this.#hold(node, {
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
    const able = own.filter(
      (node) => this.#isAlive(node, nowMs) && !isDraining(node) && isReady(node.heartbeat, version),
    )
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
    const node = this.#holders.get(requestId)
    const lease = node?.leases.get(requestId)
    if (!node || !lease) return
    node.breaker.succeeded()
    const tookMs = nowMs - lease.acquiredAtMs
    const mean = this.#meanMs.get(lease.model) ?? tookMs
    this.#meanMs.set(lease.model, mean + 0.1 * (tookMs - mean))
  }

  /** Ends leases whose requests are settled; unknown ones are left alone. */
  release(requestIds: readonly string[]): void {
    for (const requestId of requestIds) {
      const node = this.#holders.get(requestId)
      if (!node) continue
      node.breaker.ended(requestId)
      const { tenant } = node.leases.get(requestId) ?? {}
      if (tenant !== undefined) {
        const left = (this.#running.get(tenant) ?? 1) - 1
        if (left > 0) this.#running.set(tenant, left)
        else this.#running.delete(tenant)
      }
      node.leases.delete(requestId)
      this.#holders.delete(requestId)
    }
  }

  /** Requests of a tenant that have a node. */
  running(tenant: string): number {
    return this.#running.get(tenant) ?? 0
  }

  /** How long it takes until `ahead` requests of a model have ended, by the mean of what ended; 0 when nothing has. */
  waitMs(model: string, ahead: number, nowMs: number): number {
    const slots = [...this.#nodes.values()]
      .filter((node) => node.heartbeat.model.id === model && this.#isAlive(node, nowMs) && !isDraining(node))
      .reduce((sum, { heartbeat }) => sum + (heartbeat.load.slots ?? Infinity), 0)
    return slots === 0 ? 0 : (ahead * (this.#meanMs.get(model) ?? 0)) / slots
  }

  /** Whether a node of a model that is away now was there lately, and may come back. */
  mayReturn(model: string, nowMs: number): boolean {
    return [...this.#nodes.values()].some(
      ({ heartbeat, seenAtMs }) =>
        heartbeat.model.id === model && !heartbeat.leaving && nowMs - seenAtMs < this.#policy.deadMs,
    )
  }

  /** How a leased request is; undefined when it is settled, or was never leased. */
  look(requestId: string, nowMs: number): LeaseView | undefined {
    const node = this.#holders.get(requestId)
    const lease = node?.leases.get(requestId)
    if (!node || !lease) return undefined
    return {
      silent: nowMs - node.seenAtMs >= this.#policy.silentMs,
      named: lease.named,
      heardAfterMs: node.seenAtMs - lease.acquiredAtMs,
      idleMs: nowMs - lease.progressAtMs,
      completionTokens: lease.completionTokens,
    }
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
      const isDead = leaving || nowMs >= Math.max(node.seenAtMs + this.#policy.deadMs, graceEndsMs)
      for (const lease of node.leases.values()) {
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
    const nodes = [...this.#nodes.values()].map((node): NodeView => {
      const { heartbeat } = node
      const { running, waiting, kvTokensUsed, kvTokensTotal } = heartbeat.load
      const alive = this.#isAlive(node, nowMs)
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
    })
    return { nodes: nodes.sort((a, b) => (a.id < b.id ? -1 : 1)) }
  }

  /**
   * The pruning methods that some node of a model can choose masks by, sorted.
   *
   * @returns null when no node of the model is alive that could tell
   */
  offeredMethods(model: string, nowMs: number): string[] | null {
    const nodes = [...this.#nodes.values()].filter(
      (node) => node.heartbeat.model.id === model && this.#isAlive(node, nowMs),
    )
    if (nodes.length === 0) return null
    return [...new Set(nodes.flatMap(({ heartbeat }) => heartbeat.methods))].sort()
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

  /** Whether a request is leased and not settled. */
  isLeased(requestId: string): boolean {
    return this.#holders.has(requestId)
  }

  /** What to keep of a node. */
  record(nodeId: string): NodeRecord | undefined {
    const node = this.#nodes.get(nodeId)
    if (!node) return undefined
    const { desiredVersion, trials, drained, seenAtMs } = node
    // The next heartbeat tells its prefixes again: they are not worth a write every two seconds.
    const { prefixes: _, ...heartbeat } = node.heartbeat
    return { heartbeat, desiredVersion, trials, drained, seenAtMs, leases: [...node.leases.values()] }
  }

  /** Takes back what {@link record} gave. */
  restore({ heartbeat, desiredVersion, trials = {}, drained = false, seenAtMs, leases }: NodeRecord): void {
    const node: Node = {
      heartbeat,
      desiredVersion,
      trials,
      drained,
      seenAtMs,
      breaker: new Breaker(),
      prefixes: new CachedPrefixes(),
      suspect: false,
      refusing: false,
      granted: 0,
      leases: new Map(),
    }
    this.#nodes.set(heartbeat.nodeId, node)
    for (const lease of leases) this.#hold(node, lease)
  }

  #renew(node: Node, progress: RequestProgress, nowMs: number): void {
    const lease = node.leases.get(progress.requestId)
    if (!lease) return
    const progressAtMs = Math.max(lease.progressAtMs, nowMs - progress.idleMs)
    node.leases.set(progress.requestId, {
      ...lease,
      named: true,
      promptTokens: progress.promptTokens,
      completionTokens: progress.completionTokens,
      progressAtMs,
      expiresAtMs: progressAtMs + this.#policy.leaseMs,
    })
  }

  #candidates({ priority, prefix = [] }: AcquireRequest, nowMs: number): (Candidate & { node: Node })[] {
    return [...this.#nodes.values()].map((node) => {
      const { heartbeat } = node
      const { load, nodeId } = heartbeat
      const busy = load.running + load.waiting + node.granted
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
      canary && version === undefined && account !== undefined && isChosen('canary', canary, model, account)
    return isOne ? canary.version : undefined
  }

  /** The version on trial that a node shall score a request's answer under. */
  #shadowOf({ model, requestId }: AcquireRequest, node: Node): number | undefined {
    const shadow = this.#newest(model)?.trials.shadow
    const isOne =
      shadow && isReady(node.heartbeat, shadow.version) && isChosen('shadow', shadow, model, requestId)
    return isOne ? shadow.version : undefined
  }

  #hold(node: Node, lease: Lease): void {
    node.leases.set(lease.requestId, lease)
    this.#holders.set(lease.requestId, node)
    if (lease.tenant !== undefined) this.#running.set(lease.tenant, this.running(lease.tenant) + 1)
  }
}

/**
 * Requests that a node shall have: those that it runs, and for interactive ones as many that wait there, so that a
 * slot never idles while its next request is on its way. What is more waits in the fleet's line, which is fair.
 */
function room(slots: number | undefined, priority: Priority | undefined): number {
  if (slots === undefined) return Infinity
  return priority === 'batch' ? slots : 2 * slots
}

/** It takes no new requests, by its own word or the operator's. */
function isDraining({ heartbeat, drained }: Node): boolean {
  return heartbeat.draining || drained
}

/** Whether requests can start on a version, or else on the active one. */
function isReady(heartbeat: Heartbeat, version = heartbeat.activeVersion): boolean {
  return readyVersions(heartbeat).includes(version)
}

/** Versions that requests can start on, as the heartbeat tells. */
export function readyVersions({ weightSets }: Pick<Heartbeat, 'weightSets'>): number[] {
  return weightSets.filter(({ state }) => state === 'ready').map(({ version }) => version)
}
