import type { NodePrefixes } from '@copal/shared/wire/prefix.ts'

/**
 * How long a prefix that was dispatched to a node counts as cached there before a report: five heartbeats. A request on the node renews
 * it, because a node reports a prefix once the whole prompt is computed, which may take longer.
 */
const DISPATCHED_MS = 10_000
/** The maximum number of dispatched keys per node; the oldest are dropped. */
const MAX_DISPATCHED = 512

/**
 * The prefixes that one node has cached, by mask version: those that it reported last, and those that were dispatched to
 * it since, because heartbeats lag. Pure: it has no clock of its own.
 */
export class PrefixIndex {
  /** Undefined for a node without a prefix cache. */
  #reported: ReadonlyMap<number, ReadonlySet<string>> | undefined
  /** When each dispatched key expires, by name, soonest first. */
  readonly #dispatched = new Map<string, number>()
  /** The names of the keys of each request that was dispatched and may still be on the node. */
  readonly #requests = new Map<string, readonly string[]>()

  /**
   * Replaces the reported keys by those of a heartbeat, renews the keys of requests on the node, and drops expired ones.
   *
   * @param leases the requests that are on the node, by id
   */
  update(held: NodePrefixes | undefined, leases: ReadonlyMap<string, unknown>, nowMs: number): void {
    this.#reported = held && new Map(held.map(({ version, keys }) => [version, new Set(keys)]))
    for (const [requestId, names] of this.#requests) {
      if (leases.has(requestId)) this.#renew(names, nowMs)
      else this.#requests.delete(requestId)
    }
    for (const [name, untilMs] of this.#dispatched) {
      if (untilMs > nowMs) break
      this.#dispatched.delete(name)
    }
  }

  /** Adds the keys of a request that was dispatched to the node. */
  addDispatched(requestId: string, version: number, keys: readonly string[], nowMs: number): void {
    if (!this.#reported || keys.length === 0) return
    const names = keys.map((key) => nameOf(version, key))
    this.#requests.set(requestId, names)
    this.#renew(names, nowMs)
  }

  /** Drops the dispatched keys after a request failed or the node restarted; only reported keys count then. */
  forgetDispatched(): void {
    this.#dispatched.clear()
    this.#requests.clear()
  }

  #renew(names: readonly string[], nowMs: number): void {
    for (const name of names) {
      this.#dispatched.delete(name)
      this.#dispatched.set(name, nowMs + DISPATCHED_MS)
    }
    for (const name of this.#dispatched.keys()) {
      if (this.#dispatched.size <= MAX_DISPATCHED) break
      this.#dispatched.delete(name)
    }
  }

  /** Returns the position, from 1, of the longest cached key of a prompt (`keys` are shortest first); 0 if none is cached. */
  countMatched(version: number, keys: readonly string[], nowMs: number): number {
    const reported = this.#reported?.get(version)
    return (
      1 +
      keys.findLastIndex(
        (key) => reported?.has(key) === true || (this.#dispatched.get(nameOf(version, key)) ?? 0) > nowMs,
      )
    )
  }
}

function nameOf(version: number, key: string): string {
  return `${version}:${key}`
}
