import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { FleetActivity } from './fleet-activity.ts'
import { ServedVersions, type ServedRequest } from './served-versions.ts'
import type { Trials } from '../../contracts/trial.ts'
import type { AcquireResult, AcquireRequest, FailedAttempt, NoNode } from '../../contracts/acquire.ts'
import type { Lease, LeaseView } from '../../contracts/lease.ts'
import type { UsageOwner } from '../../contracts/limits.ts'
import { Leases, tenantOf } from './leases.ts'
import { isDraining, isReady, readyVersions, maxRequests, type Node, type NodeRecord } from './fleet-node.ts'
import { FleetNodes } from './fleet-nodes.ts'
import { losesTime, pickNode, type Candidate } from './node-picker.ts'
import { DEFAULT_POLICY } from './policy-variables.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'

/** The silence after which a node is forgotten. */
export const FORGET_MS = 600_000
/** The default retry time: a little more than two heartbeats, in which a node that restarted has registered. */
const RETRY_AFTER_MS = 5_000

/**
 * The requests on the nodes of the fleet, without input, output or a clock of its own.
 *
 * The load of a node is its last report plus the requests on their way to it: leased requests that no heartbeat has
 * listed yet, until a heartbeat composed at least `connectMs` after the lease does not list them either. So a node that
 * just got a request does not look idle, and a lost request does not make it look busy for long.
 */
export class FleetState {
  readonly #policy: FleetPolicy
  readonly nodes: FleetNodes
  readonly #versions: ServedVersions
  readonly #leases: Leases
  /** The running mean of the duration of a model's requests. */
  readonly #meanRequestMs = new Map<string, number>()
  readonly #activity: FleetActivity

  constructor(policy: FleetPolicy = DEFAULT_POLICY) {
    this.#policy = policy
    this.nodes = new FleetNodes(policy)
    this.#versions = new ServedVersions(this.nodes)
    this.#leases = new Leases(policy)
    this.#activity = new FleetActivity(policy.deadMs)
  }

  /**
   * Registers or renews a node and the leases of the requests that it reports.
   *
   * @param desiredVersion the version that its model must be served with; undefined if it is not available now
   * @returns false if the desired version is needed, because the node or its weights are new
   */
  heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    nowMs: number,
    trials: Trials = {},
  ): boolean {
    this.#activity.note(nowMs)
    const renewed = this.nodes.renew(heartbeat, desiredVersion, nowMs, trials)
    if (!renewed) return false
    const { node, isRestarted } = renewed
    if (isRestarted) this.#leases.expireReplaced(node, nowMs)
    for (const progress of heartbeat.requests) this.#leases.renew(node, progress, nowMs)
    return true
  }

  /** Leases the best node for a request that has waited since `sinceMs`. */
  acquire(request: AcquireRequest, nowMs: number, sinceMs = nowMs): AcquireResult {
    // The same attempt asks again if the reply was lost.
    this.release([request.requestId])
    const candidates = this.#candidates(request, nowMs)
    const lastHeard = this.#versions.lastHeard(request.model)
    const pickRequest = {
      ...request,
      exclude: request.exclude.filter((id) => (this.nodes.find(id)?.seenAtMs ?? 0) <= sinceMs),
      desiredVersion: lastHeard?.desiredVersion ?? 0,
      replacedVersion: lastHeard?.trials.replaced,
      spillover: this.#policy.spillover,
    }
    // A mask beside the active one must not delay or fail a request: if no node with it is free, or an attempt failed, the
    // active mask serves it.
    const beside = request.exclude.length === 0 ? this.#versions.versionBeside(request) : undefined
    const holder = beside && pickNode(candidates, { ...pickRequest, version: beside.version })
    const activeNode = holder && !beside.isCanary ? undefined : pickNode(candidates, pickRequest)
    // Few nodes may hold a canary, and would be busier than the others by all of its share: it would look slow.
    const besideNode =
      holder && activeNode && losesTime(holder, activeNode, pickRequest.spillover) ? undefined : holder
    const picked = besideNode ?? activeNode
    const maskVersion = request.version ?? (besideNode ? beside?.version : picked?.activeVersion)
    if (!picked || maskVersion === undefined) return this.noNode(request, nowMs)
    const { node } = picked
    const { requestId, model, domain, account, tenant, promptTokens } = request
    node.breakers.recordSent(requestId, tenantOf(request))
    node.prefixes.addDispatched(requestId, maskVersion, request.prefix ?? [], nowMs)
    this.#leases.add(node, {
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
    const shadow =
      maskVersion === pickRequest.desiredVersion ? this.#versions.shadowOf(request, node) : undefined
    return {
      ok: true,
      nodeId,
      url,
      maskVersion,
      ...(besideNode ? { pinned: true } : {}),
      ...(shadow === undefined ? {} : { shadow }),
    }
  }

  /** Returns whether any node of a model that takes requests has room for one of a priority. */
  hasRoom(model: string, priority: AcquireRequest['priority'], nowMs: number): boolean {
    const taking = this.nodes.alive(model, nowMs).filter((node) => !isDraining(node))
    return taking.some((node) => !isFull(node, this.#loadOf(node), priority))
  }

  /** Returns the reason that a request for a model gets no node now. */
  noNode(request: Pick<AcquireRequest, 'model' | 'version' | 'tenant'>, nowMs: number): NoNode {
    const { model, version } = request
    const tenant = tenantOf(request)
    const able = this.nodes.able(model, version, nowMs)
    const isOpen = able.some(({ breakers }) => breakers.allows(tenant, nowMs))
    const isKnown = this.nodes.ofModel(model).length > 0
    const againMs = able.flatMap(({ breakers }) => breakers.nextProbeAtMs(tenant) ?? [])
    return {
      ok: false,
      reason: isOpen ? 'full' : isKnown ? 'absent' : 'unknown',
      retryAfterMs: againMs.length > 0 ? Math.max(0, Math.min(...againMs) - nowMs) : RETRY_AFTER_MS,
      servedModels: this.nodes.servedModels(nowMs),
    }
  }

  /**
   * Ends the lease of a failed attempt, or leaves it to be settled by the receipt. A node that broke or was full gets no request
   * until its next heartbeat.
   */
  fail({ requestId, nodeId, how, ...owner }: FailedAttempt & Pick<Lease, 'tenant'>, nowMs: number): void {
    const node = this.nodes.find(nodeId)
    if (node) {
      const lease = node.leases.get(requestId)
      const tenant = tenantOf(lease ?? owner)
      // A canary that gives no valid output says nothing about the node, which serves the active mask too.
      const isOfWeights = how === 'failed' && lease !== undefined && this.#versions.isBeside(lease)
      if (how === 'broke' || how === 'cut') node.suspect = true
      if (how === 'full') node.atCapacity = true
      if (how === 'ended' || isOfWeights) node.breakers.recordEnd(requestId, tenant)
      if (how !== 'ended' && how !== 'refused') node.prefixes.forgetDispatched()
      if (how === 'broke' || how === 'cut' || (how === 'failed' && !isOfWeights))
        node.breakers.recordFailure(requestId, tenant, nowMs)
    }
    if (how !== 'cut' && how !== 'ended') this.release([requestId])
  }

  /** Records that a node completed a request. */
  succeeded(requestId: string, nowMs: number): void {
    const found = this.#leases.find(requestId)
    if (!found) return
    const { node, lease } = found
    node.breakers.recordSuccess(tenantOf(lease))
    const durationMs = nowMs - lease.acquiredAtMs
    const mean = this.#meanRequestMs.get(lease.model) ?? durationMs
    this.#meanRequestMs.set(lease.model, mean + 0.1 * (durationMs - mean))
  }

  /** Ends the leases of settled requests; unknown ones are ignored. */
  release(requestIds: readonly string[]): void {
    this.#leases.release(requestIds)
  }

  /** Returns the number of requests of a tenant that have a node. */
  running(tenant: string): number {
    return this.#leases.running(tenant)
  }

  /** Estimates the time until `ended` requests for some weights have ended, from the mean duration; 0 if that is unknown. */
  estimateWaitMs(
    { model, version }: Pick<AcquireRequest, 'model' | 'version'>,
    ended: number,
    nowMs: number,
  ): number {
    const able = this.nodes.able(model, version, nowMs)
    const slots = able.reduce((sum, { heartbeat }) => sum + (heartbeat.load.slots ?? Infinity), 0)
    return slots === 0 ? 0 : (ended * (this.#meanRequestMs.get(model) ?? 0)) / slots
  }

  /** Renews the lease of a request whose node responds to health checks without sending heartbeats. */
  touch(requestId: string, nowMs: number): void {
    this.#leases.touch(requestId, nowMs)
  }

  /** Returns the progress of a leased request; undefined if it is settled or unknown. */
  leaseView(requestId: string, nowMs: number): LeaseView | undefined {
    return this.#leases.view(requestId, nowMs)
  }

  /**
   * Returns the expired leases, to be settled and released, and the ids of forgotten nodes: those that have been gone for
   * long and have no lease.
   *
   * Silence while the fleet itself was away does not count, see {@link FleetActivity}.
   */
  expire(nowMs: number): { leases: Lease[]; forgotten: string[] } {
    this.#activity.note(nowMs)
    const { graceEndsMs } = this.#activity
    const expired: Lease[] = []
    const forgotten: string[] = []
    for (const node of this.nodes.all()) {
      const { leaving, nodeId } = node.heartbeat
      for (const lease of node.leases.values()) {
        const lastSeenMs = Math.max(node.seenAtMs, lease.answeredAtMs ?? -Infinity)
        const isDead = leaving || nowMs >= Math.max(lastSeenMs + this.#policy.deadMs, graceEndsMs)
        if (isDead || nowMs >= Math.max(lease.expiresAtMs, graceEndsMs)) expired.push(lease)
      }
      if ((leaving || nowMs - node.seenAtMs >= FORGET_MS) && node.leases.size === 0) {
        this.nodes.forget(nodeId)
        forgotten.push(nodeId)
      }
    }
    return { leases: expired, forgotten }
  }

  /** Returns the version that would serve a conversation of a domain now; undefined if no node of the model is known. */
  versionFor(request: ServedRequest, nowMs: number): number | undefined {
    return this.#versions.versionFor(request, nowMs)
  }

  /** Returns the lease of a request; undefined if it is settled or unknown. */
  leaseOf(requestId: string): Lease | undefined {
    return this.#leases.find(requestId)?.lease
  }

  /** Returns the ids of the leases of a key or of a tenant. */
  leasesOf(account: UsageOwner): string[] {
    return this.#leases.idsOf(account)
  }

  /** Restores a node and its leases from a stored record. */
  restore(record: NodeRecord): void {
    const node = this.nodes.restore(record)
    for (const lease of record.leases) this.#leases.add(node, lease)
  }

  #candidates(request: AcquireRequest, nowMs: number): (Candidate & { node: Node })[] {
    const { priority, prefix = [] } = request
    return this.nodes.all().map((node) => {
      const { heartbeat } = node
      const { load, nodeId } = heartbeat
      const busy = this.#loadOf(node)
      return {
        id: nodeId,
        model: heartbeat.model.id,
        alive: this.nodes.isAlive(node, nowMs) && node.breakers.allows(tenantOf(request), nowMs),
        draining: isDraining(node),
        activeVersion: isReady(heartbeat) ? heartbeat.activeVersion : undefined,
        readyVersions: readyVersions(heartbeat),
        load: busy,
        slots: load.slots ?? Infinity,
        full: isFull(node, busy, priority),
        cachedKeys: (version) => node.prefixes.countMatched(version, prefix, nowMs),
        node,
      }
    })
  }

  /** Returns the running and waiting requests of a node, as far as known. */
  #loadOf(node: Node): number {
    const { running, waiting } = node.heartbeat.load
    return running + waiting + this.#leases.countSent(node)
  }
}

/** Returns whether a node with a load takes no more requests of a priority. */
function isFull(node: Node, load: number, priority: AcquireRequest['priority']): boolean {
  // Receipts arrive before heartbeats, and leases may outlive their requests: the smaller number is right.
  const requests = Math.min(load, node.leases.size)
  return node.atCapacity || requests >= maxRequests(node.heartbeat.load.slots, priority)
}
