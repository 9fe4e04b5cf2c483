import type { FailedAttempts } from '../../contracts/fleet-object.ts'

/** How long attempts are remembered. A node that reaches the gateway sends its receipts within a second. */
const REMEMBER_MS = 600_000
const MAX_ATTEMPTS = 100_000

/** What became of a failed attempt. */
export type Outcome = keyof FailedAttempts

/**
 * Attempts of which clients got no output, until their receipts cannot be on their way any more. Pure: it has no clock of
 * its own.
 */
export class RecentAttempts {
  /** What became of each attempt, and when it was added, oldest first. */
  readonly #attempts = new Map<string, { outcome: Outcome; atMs: number }>()

  /** Adds an attempt and forgets old ones. */
  add(attemptId: string, outcome: Outcome, nowMs: number): void {
    this.#attempts.delete(attemptId)
    this.#attempts.set(attemptId, { outcome, atMs: nowMs })
    for (const [oldest, { atMs }] of this.#attempts) {
      if (this.#attempts.size <= MAX_ATTEMPTS && nowMs - atMs < REMEMBER_MS) return
      this.#attempts.delete(oldest)
    }
  }

  /** Returns what became of an attempt; undefined if it is not remembered. */
  outcomeOf(attemptId: string): Outcome | undefined {
    return this.#attempts.get(attemptId)?.outcome
  }

  /** Returns those of the given attempts that are remembered. */
  find(attemptIds: readonly string[]): FailedAttempts {
    const ended = (outcome: Outcome) =>
      attemptIds.filter((attemptId) => this.outcomeOf(attemptId) === outcome)
    return { superseded: ended('superseded'), undelivered: ended('undelivered') }
  }
}
