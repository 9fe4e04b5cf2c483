import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { UsageOwner } from '../../contracts/limits.ts'
import type { Lease, LeaseView, LeaseState } from '../../contracts/lease.ts'
import type { Node } from './fleet-node.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'

/** The leases of all nodes, indexed by request and counted by tenant. */
export class Leases {
  readonly #policy: FleetPolicy
  /** The node of each lease. */
  readonly #nodeByLease = new Map<string, Node>()
  /** Leases by tenant. */
  readonly #countByTenant = new Map<string, number>()

  constructor(policy: FleetPolicy) {
    this.#policy = policy
  }

  /** Adds a lease to a node. */
  add(node: Node, lease: Lease): void {
    node.leases.set(lease.requestId, lease)
    this.#nodeByLease.set(lease.requestId, node)
    if (lease.tenant !== undefined) this.#countByTenant.set(lease.tenant, this.running(lease.tenant) + 1)
  }

  /** Returns a lease and its node; undefined if it is settled or unknown. */
  find(requestId: string): { node: Node; lease: Lease } | undefined {
    const node = this.#nodeByLease.get(requestId)
    const lease = node?.leases.get(requestId)
    return node && lease ? { node, lease } : undefined
  }

  /** Updates a lease from the progress that its node reports; reports about leases of other nodes are ignored. */
  renew(node: Node, progress: RequestProgress, nowMs: number): void {
    const lease = node.leases.get(progress.requestId)
    if (!lease) return
    if (progress.completionTokens > 0) node.breakers.recordToken(progress.requestId, tenantOf(lease))
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

  /** Renews the lease of a request whose node responds to health checks without sending heartbeats. */
  touch(requestId: string, nowMs: number): void {
    const found = this.find(requestId)
    if (!found) return
    const { node, lease } = found
    node.leases.set(requestId, { ...lease, answeredAtMs: nowMs, expiresAtMs: nowMs + this.#policy.leaseMs })
  }

  /**
   * Has the leases of a node whose process was replaced expire like those of a dead node: what ran there is lost. The new
   * process has this time to send receipts that the old one left. Requests that it does not report are missing.
   */
  expireReplaced(node: Node, nowMs: number): void {
    const byMs = nowMs + this.#policy.deadMs
    for (const [requestId, lease] of node.leases) {
      const expiresAtMs = Math.min(lease.expiresAtMs, byMs)
      node.leases.set(requestId, { ...lease, named: false, replacedAtMs: nowMs, expiresAtMs })
    }
  }

  /** Ends the leases of settled requests; unknown ones are ignored. */
  release(requestIds: readonly string[]): void {
    for (const requestId of requestIds) {
      const found = this.find(requestId)
      if (!found) continue
      const { node, lease } = found
      node.breakers.recordEnd(requestId, tenantOf(lease))
      node.leases.delete(requestId)
      this.#nodeByLease.delete(requestId)
      if (lease.tenant === undefined) continue
      const left = this.running(lease.tenant) - 1
      if (left > 0) this.#countByTenant.set(lease.tenant, left)
      else this.#countByTenant.delete(lease.tenant)
    }
  }

  /** Returns the ids of the leases of a key or of a tenant. */
  idsOf({ kind, name }: UsageOwner): string[] {
    const isOwn = ({ account, tenant }: Lease) => (kind === 'key' ? account : tenant) === name
    return [...new Set(this.#nodeByLease.values())]
      .flatMap(({ leases }) => [...leases.values()].filter(isOwn))
      .map(({ requestId }) => requestId)
  }

  /** Returns the number of requests of a tenant that have a node. */
  running(tenant: string): number {
    return this.#countByTenant.get(tenant) ?? 0
  }

  /** Returns the progress of a leased request. */
  view(requestId: string, nowMs: number): LeaseView | undefined {
    const found = this.find(requestId)
    if (!found) return undefined
    const { node, lease } = found
    return {
      silent: nowMs - node.seenAtMs >= this.#policy.silentMs,
      state: this.#stateOf(node, lease),
      idleMs: nowMs - lease.progressAtMs,
      firstTokenWaitMs: nowMs - (lease.tokenlessSinceMs ?? nowMs),
    }
  }

  /** Counts the requests on their way to a node, which its reported load does not include. */
  countSent(node: Node): number {
    let count = 0
    for (const lease of node.leases.values()) if (this.#stateOf(node, lease) === 'sent') count += 1
    return count
  }

  /** A heartbeat cannot list a request that arrived after it was composed. */
  #stateOf(node: Node, lease: Lease): LeaseState {
    if (lease.named) return 'taken'
    const sentAtMs = lease.replacedAtMs ?? lease.acquiredAtMs
    return node.previousHeartbeatMs - sentAtMs < this.#policy.connectMs ? 'sent' : 'missing'
  }
}

/** Returns the tenant of a lease or a request; those without one count as one tenant. */
export function tenantOf({ tenant = '' }: { readonly tenant?: string | undefined }): string {
  return tenant
}
