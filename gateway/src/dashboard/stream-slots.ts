import { AppError } from '@copal/shared/errors.ts'

/** Streams of events that an isolate serves at once, in all and of one key. */
const MAX_STREAMS = 128
const MAX_STREAMS_PER_KEY = 16

interface Slot {
  keyId: string
  endMs: number
}

/** Counts the streams of events of an isolate. */
export class StreamSlots {
  readonly #slots = new Set<Slot>()

  /**
   * Takes a slot. It is free again when it is given back, when the client leaves, and at the latest when the stream must have ended:
   * workerd stops the code of a request whose client is gone, so that its `finally` never runs.
   *
   * @param stream.endMs when the stream ends at the latest, Unix milliseconds
   * @param stream.signal aborts when the client leaves
   * @returns a function that gives it back
   * @throws AppError `rate_limit_exceeded` if there is none
   */
  take(keyId: string, stream: { nowMs: number; endMs: number; signal: AbortSignal }): () => void {
    for (const slot of this.#slots) if (slot.endMs <= stream.nowMs) this.#slots.delete(slot)
    const own = [...this.#slots].filter((slot) => slot.keyId === keyId).length
    if (own >= MAX_STREAMS_PER_KEY || this.#slots.size >= MAX_STREAMS) {
      throw new AppError(
        'rate_limit_exceeded',
        `At most ${MAX_STREAMS_PER_KEY} streams of events may be open with one key, and ${MAX_STREAMS} in all. Close pages of the dashboard that nobody looks at.`,
        { retryAfterS: 30 },
      )
    }
    const slot = { keyId, endMs: stream.endMs }
    const release = () => void this.#slots.delete(slot)
    this.#slots.add(slot)
    stream.signal.addEventListener('abort', release, { once: true })
    return release
  }
}
