import type { NodePrefixes } from '@copal/shared/wire/prefix.ts'

/** How long a prefix that was dispatched to a node counts as cached there before a report: five heartbeats. */
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

  /** Replaces the reported keys by those of a heartbeat, and drops expired dispatched keys. */
  update(held: NodePrefixes | undefined, nowMs: number): void {
    this.#reported = held && new Map(held.map(({ version, keys }) => [version, new Set(keys)]))
    for (const [name, untilMs] of this.#dispatched) {
      if (untilMs > nowMs) break
      this.#dispatched.delete(name)
    }
  }

  /** Adds the keys of a prompt that was dispatched to the node. */
  addDispatched(version: number, keys: readonly string[], nowMs: number): void {
    if (!this.#reported) return
    for (const key of keys) {
      const name = nameOf(version, key)
      this.#dispatched.delete(name)
      this.#dispatched.set(name, nowMs + DISPATCHED_MS)
    }
    for (const name of this.#dispatched.keys()) {
      if (this.#dispatched.size <= MAX_DISPATCHED) break
      this.#dispatched.delete(name)
    }
  }

  /** Drops the dispatched keys after a request failed; only reported keys count then. */
  forgetDispatched(): void {
    this.#dispatched.clear()
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
