import type { NodePrefixes } from '@copal/shared/wire/prefix.ts'

/** For how long a beginning counts as computed that a node was given and has not told of: five heartbeats. */
const PLACED_MS = 10_000
/** Keys of what was placed on one node; the oldest go. */
const MAX_PLACED = 512

/**
 * Which beginnings of prompts one node need not compute, by the version of its weights: what it told last, and what it
 * was given since, for heartbeats lag. Pure, without a clock of its own.
 */
export class PrefixIndex {
  /** Undefined for a node that has no cache. */
  #told: ReadonlyMap<number, ReadonlySet<string>> | undefined
  /** When to forget them, by name, soonest first. */
  readonly #placed = new Map<string, number>()

  /** Takes what a heartbeat tells. */
  tell(held: NodePrefixes | undefined, nowMs: number): void {
    this.#told = held && new Map(held.map(({ version, keys }) => [version, new Set(keys)]))
    for (const [name, untilMs] of this.#placed) {
      if (untilMs > nowMs) break
      this.#placed.delete(name)
    }
  }

  /** The node was given a prompt with these keys. */
  place(version: number, keys: readonly string[], nowMs: number): void {
    if (!this.#told) return
    for (const key of keys) {
      const name = nameOf(version, key)
      this.#placed.delete(name)
      this.#placed.set(name, nowMs + PLACED_MS)
    }
    for (const name of this.#placed.keys()) {
      if (this.#placed.size <= MAX_PLACED) break
      this.#placed.delete(name)
    }
  }

  /** A request failed there: only what the node tells counts from now on. */
  forgetPlaced(): void {
    this.#placed.clear()
  }

  /** How many keys of a prompt, shortest first, stand for what the node has; 0 when it has nothing of it. */
  matched(version: number, keys: readonly string[], nowMs: number): number {
    const told = this.#told?.get(version)
    return (
      1 +
      keys.findLastIndex(
        (key) => told?.has(key) === true || (this.#placed.get(nameOf(version, key)) ?? 0) > nowMs,
      )
    )
  }
}

function nameOf(version: number, key: string): string {
  return `${version}:${key}`
}
