import { MAX_SKEW_MS } from '@copal/shared/wire/signature.ts'
import type { SignatureUse } from '../../contracts/fleet-object.ts'

/** How long a signature can be valid: it may be signed ahead of this clock by the maximum difference. */
const VALID_MS = 2 * MAX_SKEW_MS
/** The signatures of one node that are remembered. Only the holder of its secret can add to them. */
const MAX_PER_NODE = 20_000

/**
 * The signatures of calls from nodes that were used while they are valid, so that each is accepted once. Pure.
 *
 * Signatures that were used before a restart are not remembered. Instead, what a node signed up to its last stored heartbeat is not
 * accepted any more: nodes sign every call anew, so that a call that is rejected for it succeeds with the next attempt.
 */
export class UsedSignatures {
  /** The time of use by signature, the oldest first, by node. */
  readonly #used = new Map<string, Map<string, number>>()
  /** The latest time that each node has signed. */
  readonly #lastSignedMs = new Map<string, number>()
  /** The time up to which signatures of a node may have been used before the restart. */
  readonly #usedUpToMs = new Map<string, number>()

  /** Records the use of a signature; returns false if it was used before. */
  use({ nodeId, mac, signedAtMs }: SignatureUse, nowMs: number): boolean {
    if (signedAtMs <= (this.#usedUpToMs.get(nodeId) ?? -Infinity)) return false
    const used = this.#used.get(nodeId) ?? new Map<string, number>()
    for (const [oldest, usedMs] of used) {
      if (nowMs - usedMs <= VALID_MS && used.size < MAX_PER_NODE) break
      used.delete(oldest)
    }
    if (used.has(mac)) return false
    this.#used.set(nodeId, used.set(mac, nowMs))
    this.#lastSignedMs.set(nodeId, Math.max(signedAtMs, this.#lastSignedMs.get(nodeId) ?? -Infinity))
    return true
  }

  /** Returns the latest time that a node has signed, to be stored; undefined if it is not known. */
  lastSignedMs(nodeId: string): number | undefined {
    return this.#lastSignedMs.get(nodeId)
  }

  /** Restores the time that {@link lastSignedMs} returned before a restart. */
  restore(nodeId: string, lastSignedMs: number): void {
    this.#usedUpToMs.set(nodeId, lastSignedMs)
    this.#lastSignedMs.set(nodeId, lastSignedMs)
  }

  /** Forgets a node that has been gone for longer than its signatures are valid. */
  forget(nodeId: string): void {
    for (const map of [this.#used, this.#lastSignedMs, this.#usedUpToMs]) map.delete(nodeId)
  }
}
