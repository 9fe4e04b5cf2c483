import { storeLatest } from '../runtime/bounded-map.ts'
import { fillBucket, type BucketRate, type TokenBucket } from '../runtime/token-bucket.ts'

/** Rejected calls of one action by one actor that get a row each in the audit log. */
const ROWS: BucketRate = { perMinute: 20, burst: 60 }
/** Pairs of actors and actions that are counted; beyond it the one that was counted longest ago starts anew. */
const MAX_ACTIONS = 4_096

/** How long the rejected calls after the last one with a row are counted before their number is written into it, in milliseconds. */
export const COUNTED_MS = 10_000

/**
 * Counts the calls of an action that are rejected after one whose row is kept open for their number. Calls that run meanwhile are
 * counted as well: the row is closed behind the last of them, so if that never comes, the log says that the outcome is unknown.
 */
export class CountedRejections<Row> {
  rejected = 0
  /** The row, when it is known. */
  row: Row | undefined
  readonly #untilMs: number
  #running = 0
  #isOver = false

  constructor(untilMs: number) {
    this.#untilMs = untilMs
  }

  isOpen(atMs: number): boolean {
    return !this.#isOver && atMs < this.#untilMs
  }

  begin(): void {
    this.#running += 1
  }

  /** Ends a call, which was rejected or has a row of its own by now, and returns the row if it is to be closed. */
  end(isRejected: boolean): Row | undefined {
    this.#running -= 1
    if (isRejected) this.rejected += 1
    return this.#closed()
  }

  /** Ends the counting, and returns the row if it is to be closed. */
  endCounting(): Row | undefined {
    this.#isOver = true
    return this.#closed()
  }

  #closed(): Row | undefined {
    return this.#isOver && this.#running === 0 ? this.row : undefined
  }
}

/**
 * Bounds how many rejected calls of an action by an actor have a row each, by a token bucket in each isolate. Further ones are counted
 * in the row of the last one.
 */
export class RejectedChanges<Row> {
  readonly #actions = new Map<string, { bucket: TokenBucket; counted?: CountedRejections<Row> }>()

  /**
   * Returns what counts the rejected calls of an action now; undefined if they get a row each.
   *
   * @param key the actor and the action
   */
  counted(key: string, atMs: number): CountedRejections<Row> | undefined {
    const counted = this.#actions.get(key)?.counted
    return counted?.isOpen(atMs) === true ? counted : undefined
  }

  /** Takes note of a rejected call that has a row, and returns what counts those after it if it is the last one that has. */
  note(key: string, atMs: number): CountedRejections<Row> | undefined {
    const known = this.#actions.get(key)
    const left = Math.max(0, fillBucket(known?.bucket, ROWS, atMs).left - 1)
    const bucket = { left, atMs }
    // Calls that began before it have rows of their own.
    if (left >= 1 || this.counted(key, atMs)) {
      storeLatest(this.#actions, key, { ...known, bucket }, MAX_ACTIONS)
      return undefined
    }
    const counted = new CountedRejections<Row>(atMs + COUNTED_MS)
    storeLatest(this.#actions, key, { bucket, counted }, MAX_ACTIONS)
    return counted
  }
}
