import type { FailedAttempts } from '../../contracts/fleet-object.ts'

/** How long attempts are remembered. A node that reaches the gateway sends its receipts within a second. */
const REMEMBER_MS = 600_000
const MAX_ATTEMPTS = 100_000

/**
 * Attempts of which clients got no output, until their receipts cannot be on their way any more. Pure: it has no clock of
 * its own.
 */
export class RecentAttempts {
  /** What became of each attempt, and when it was added, oldest first. */
  readonly #attempts = new Map<string, { outcome: keyof FailedAttempts; atMs: number }>()

  /** Adds an attempt and forgets old ones. */
  add(attemptId: string, outcome: keyof FailedAttempts, nowMs: number): void {
    this.#attempts.set(attemptId, { outcome, atMs: nowMs })
    for (const [oldest, { atMs }] of this.#attempts) {
      if (this.#attempts.size <= MAX_ATTEMPTS && nowMs - atMs < REMEMBER_MS) return
      this.#attempts.delete(oldest)
    }
  }

  isSuperseded(attemptId: string): boolean {
    return this.#attempts.get(attemptId)?.outcome === 'superseded'
  }

  /** Returns those of the given attempts that are remembered. */
  find(attemptIds: readonly string[]): FailedAttempts {
    const ended = (outcome: keyof FailedAttempts) =>
      attemptIds.filter((attemptId) => this.#attempts.get(attemptId)?.outcome === outcome)
    return { superseded: ended('superseded'), undelivered: ended('undelivered') }
  }
}
