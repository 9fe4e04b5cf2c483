import type { FailedAttempt } from '../../contracts/acquire.ts'
import type { FailedAttempts as FoundAttempts } from '../../contracts/fleet-object.ts'
import type { Lease } from '../../contracts/lease.ts'
import { storeSuperseded, storeUndelivered } from './estimated-receipts.ts'
import { RecentAttempts, type Outcome } from './recent-attempts.ts'

/** The time within which the gateway retries a request after its node failed. */
export const RETRY_MS = 1_000

/** What failed attempts need of the Durable Object. */
export interface FailedAttemptsHost {
  readonly binding: D1Database
  readonly waitUntil: (work: Promise<unknown>) => void
}

/**
 * The attempts of which clients got no output: those that another attempt followed do not count, and the last ones count as requests
 * without tokens. They are remembered for the receipts that arrive soon, and stored for those that come when they are forgotten.
 */
export class FailedAttempts {
  readonly #recent = new RecentAttempts()
  readonly #host: FailedAttemptsHost

  constructor(host: FailedAttemptsHost) {
    this.#host = host
  }

  /** Records that another attempt follows a failed one. */
  supersede(failed: FailedAttempt, lease: Lease | undefined): void {
    this.#add('superseded', failed, lease)
  }

  /** Records that no other attempt follows a failed one: it was not retried, or no node took the retry. */
  giveUp(failed: FailedAttempt, lease: Lease | undefined): void {
    this.#add('undelivered', failed, lease)
  }

  isSuperseded(attemptId: string): boolean {
    return this.#recent.outcomeOf(attemptId) === 'superseded'
  }

  /** Returns those of the given attempts that are remembered. */
  find(attemptIds: readonly string[]): FoundAttempts {
    return this.#recent.find(attemptIds)
  }

  /**
   * Remembers an attempt. Stores it when no receipt is on its way to the database any more that was taken for one of another outcome,
   * unless its node rejected it: then it has used nothing, and there may be no receipt.
   */
  #add(outcome: Outcome, { requestId, how }: FailedAttempt, lease: Lease | undefined): void {
    this.#recent.add(requestId, outcome, Date.now())
    // The gateway ends a request that takes too long like one that its node rejects, but its node has named it by then.
    const hasRun = how === 'refused' ? outcome === 'undelivered' && lease?.named === true : how !== 'full'
    if (!hasRun) return
    const { binding, waitUntil } = this.#host
    const stored = wait(RETRY_MS).then(() => {
      const store =
        (this.#recent.outcomeOf(requestId) ?? outcome) === 'superseded' ? storeSuperseded : storeUndelivered
      return store(binding, requestId, lease, Date.now())
    })
    waitUntil(
      stored.catch((error: unknown) =>
        console.error(`The receipt of the failed attempt ${requestId} may be counted and charged:`, error),
      ),
    )
  }
}

/** Waits some milliseconds. */
export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
