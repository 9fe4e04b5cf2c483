import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { Lease, LeaseView, Whereabouts } from '../../contracts/lease.ts'
import type { Node } from './fleet-node.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'

/** Who works on which request: the leases of all nodes, by request and by tenant. */
export class Leases {
  readonly #policy: FleetPolicy
  /** Which node holds a lease. */
  readonly #holders = new Map<string, Node>()
  /** Leases by tenant. */
  readonly #running = new Map<string, number>()

  constructor(policy: FleetPolicy) {
    this.#policy = policy
  }

  /** Gives a node a lease. */
  hold(node: Node, lease: Lease): void {
    node.leases.set(lease.requestId, lease)
    this.#holders.set(lease.requestId, node)
    if (lease.tenant !== undefined) this.#running.set(lease.tenant, this.running(lease.tenant) + 1)
  }

  /** A lease and the node that holds it; undefined when it is settled, or was never given. */
  find(requestId: string): { node: Node; lease: Lease } | undefined {
    const node = this.#holders.get(requestId)
    const lease = node?.leases.get(requestId)
    return node && lease ? { node, lease } : undefined
  }

  /** Takes note of how a request gets on; a node's word on leases that are not its own counts for nothing. */
  renew(node: Node, progress: RequestProgress, nowMs: number): void {
    const lease = node.leases.get(progress.requestId)
    if (!lease) return
    if (progress.completionTokens > 0) node.breaker.answers(progress.requestId)
    const progressAtMs = Math.max(lease.progressAtMs, nowMs - progress.idleMs)
    node.leases.set(progress.requestId, {
      ...lease,
      named: true,
      promptTokens: progress.promptTokens,
      completionTokens: progress.completionTokens,
      progressAtMs,
      tokenlessSinceMs:
        progress.firstTokenWaitMs === undefined ? undefined : nowMs - progress.firstTokenWaitMs,
      expiresAtMs: progressAtMs + this.#policy.leaseMs,
    })
  }

  /** Takes note that the node of a request answers, though it is not heard of. */
  touch(requestId: string, nowMs: number): void {
    const found = this.find(requestId)
    if (!found) return
    const { node, lease } = found
    node.leases.set(requestId, { ...lease, answeredAtMs: nowMs, expiresAtMs: nowMs + this.#policy.leaseMs })
  }

  /** Ends leases whose requests are settled; unknown ones are left alone. */
  release(requestIds: readonly string[]): void {
    for (const requestId of requestIds) {
      const found = this.find(requestId)
      if (!found) continue
      const { node, lease } = found
      node.breaker.ended(requestId)
      node.leases.delete(requestId)
      this.#holders.delete(requestId)
      if (lease.tenant === undefined) continue
      const left = this.running(lease.tenant) - 1
      if (left > 0) this.#running.set(lease.tenant, left)
      else this.#running.delete(lease.tenant)
    }
  }

  /** Requests of a tenant that have a node. */
  running(tenant: string): number {
    return this.#running.get(tenant) ?? 0
  }

  /** How a leased request is. */
  look(requestId: string, nowMs: number): LeaseView | undefined {
    const found = this.find(requestId)
    if (!found) return undefined
    const { node, lease } = found
    return {
      silent: nowMs - node.seenAtMs >= this.#policy.silentMs,
      where: this.#whereabouts(node, lease),
      idleMs: nowMs - lease.progressAtMs,
      firstTokenWaitMs: nowMs - (lease.tokenlessSinceMs ?? nowMs),
    }
  }

  /** Requests on their way to a node: what it tells of its load does not hold them. */
  sent(node: Node): number {
    let count = 0
    for (const lease of node.leases.values()) if (this.#whereabouts(node, lease) === 'sent') count += 1
    return count
  }

  /** A heartbeat says nothing of a request that was not there yet when it was composed. */
  #whereabouts(node: Node, lease: Lease): Whereabouts {
    if (lease.named) return 'taken'
    return node.composedAfterMs - lease.acquiredAtMs < this.#policy.connectMs ? 'sent' : 'missing'
  }
}
