import type { UnitSums } from './confidence-sequence.ts'

/** Sums over conversations, each with the mean of its requests' values: what SQL sums for verdicts, request by request. */
export class ConversationSums {
  readonly #conversations = new Map<string | number, { sum: number; requests: number }>()
  #sum = 0
  #squares = 0

  /** Adds the value of a request, from 0 to 1. */
  add(conversation: string | number, value: number): void {
    const own = this.#conversations.get(conversation) ?? { sum: 0, requests: 0 }
    const before = own.requests === 0 ? 0 : own.sum / own.requests
    own.sum += value
    own.requests += 1
    const after = own.sum / own.requests
    this.#conversations.set(conversation, own)
    this.#sum += after - before
    this.#squares += after ** 2 - before ** 2
  }

  /** Returns the sums so far. */
  sums(): UnitSums {
    return { count: this.#conversations.size, sum: this.#sum, squares: this.#squares }
  }
}
