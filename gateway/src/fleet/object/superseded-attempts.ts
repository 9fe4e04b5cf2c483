/** A node whose gateway answers sends its receipts within a second. */
const REMEMBER_MS = 600_000
const MOST = 100_000

/** Tries after which their requests were tried again: pure, without a clock of its own. */
export class SupersededAttempts {
  /** Since when, the oldest first. */
  readonly #atMs = new Map<string, number>()

  add(attemptId: string, nowMs: number): void {
    this.#atMs.set(attemptId, nowMs)
    for (const [oldest, atMs] of this.#atMs) {
      if (this.#atMs.size <= MOST && nowMs - atMs < REMEMBER_MS) return
      this.#atMs.delete(oldest)
    }
  }

  /** Those of some tries that are. */
  among(attemptIds: readonly string[]): string[] {
    return attemptIds.filter((attemptId) => this.#atMs.has(attemptId))
  }
}
