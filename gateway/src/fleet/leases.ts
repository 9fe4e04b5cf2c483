import type { RequestProgress } from '@copal/shared/wire/node-rpc.ts'
import type { Lease, LeaseView } from './lease.ts'
import type { Node } from './node.ts'

/** Who works on which request: the leases of all nodes, by request and by tenant. */
export class Leases {
  /** Which node holds a lease. */
  readonly #holders = new Map<string, Node>()
  /** Leases by tenant. */
  readonly #running = new Map<string, number>()

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
  renew(node: Node, progress: RequestProgress, leaseMs: number, nowMs: number): void {
    const lease = node.leases.get(progress.requestId)
    if (!lease) return
    const progressAtMs = Math.max(lease.progressAtMs, nowMs - progress.idleMs)
    node.leases.set(progress.requestId, {
      ...lease,
      named: true,
      promptTokens: progress.promptTokens,
      completionTokens: progress.completionTokens,
      progressAtMs,
      expiresAtMs: progressAtMs + leaseMs,
    })
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
  look(requestId: string, silentMs: number, nowMs: number): LeaseView | undefined {
    const found = this.find(requestId)
    if (!found) return undefined
    const { node, lease } = found
    return {
      silent: nowMs - node.seenAtMs >= silentMs,
      named: lease.named,
      heardAfterMs: node.seenAtMs - lease.acquiredAtMs,
      idleMs: nowMs - lease.progressAtMs,
      completionTokens: lease.completionTokens,
    }
  }
}
