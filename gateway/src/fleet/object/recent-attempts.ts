/** How long attempts are remembered. A node that reaches the gateway sends its receipts within a second. */
const REMEMBER_MS = 600_000
const MAX_ATTEMPTS = 100_000

/** Attempts that failed, until their receipts cannot be on their way any more. Pure: it has no clock of its own. */
export class RecentAttempts {
  /** When each attempt was added, oldest first. */
  readonly #atMs = new Map<string, number>()

  /** Adds an attempt and forgets old ones. */
  add(attemptId: string, nowMs: number): void {
    this.#atMs.set(attemptId, nowMs)
    for (const [oldest, atMs] of this.#atMs) {
      if (this.#atMs.size <= MAX_ATTEMPTS && nowMs - atMs < REMEMBER_MS) return
      this.#atMs.delete(oldest)
    }
  }

  /** Returns those of the given attempts that are remembered. */
  filter(attemptIds: readonly string[]): string[] {
    return attemptIds.filter((attemptId) => this.#atMs.has(attemptId))
  }
}
