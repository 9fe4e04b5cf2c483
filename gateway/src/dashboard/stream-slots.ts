import { AppError } from '@copal/shared/errors.ts'

/** Streams of events that an isolate serves at once, in all and of one key. */
const MAX_STREAMS = 128
const MAX_STREAMS_PER_KEY = 16

/** Counts the streams of events of an isolate. */
export class StreamSlots {
  readonly #byKey = new Map<string, number>()
  #total = 0

  /**
   * Takes a slot.
   *
   * @returns a function that gives it back
   * @throws AppError `rate_limit_exceeded` if there is none
   */
  take(keyId: string): () => void {
    const own = this.#byKey.get(keyId) ?? 0
    if (own >= MAX_STREAMS_PER_KEY || this.#total >= MAX_STREAMS) {
      throw new AppError(
        'rate_limit_exceeded',
        `At most ${MAX_STREAMS_PER_KEY} streams of events may be open with one key, and ${MAX_STREAMS} in all. Close pages of the dashboard that nobody looks at.`,
        { retryAfterS: 30 },
      )
    }
    this.#byKey.set(keyId, own + 1)
    this.#total += 1
    return () => {
      const left = (this.#byKey.get(keyId) ?? 1) - 1
      if (left > 0) this.#byKey.set(keyId, left)
      else this.#byKey.delete(keyId)
      this.#total -= 1
    }
  }
}
