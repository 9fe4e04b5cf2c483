import type { LeaveReason } from '../../contracts/response-cache-object.ts'

/** How long others wait for one who makes an answer; longer ones each makes itself. */
const FLIGHT_MS = 60_000
/** A stream that is whole is given once more by its node, about so long after. */
const LANDING_MS = 2_000

interface Flight<T> {
  /** Who makes the answer. */
  leader: string
  /** When nobody waits for it any more. */
  untilMs: number
  /** Who waits for it, first come first; told undefined, each makes its own. */
  readonly waiting: Map<string, (answer: T | undefined) => void>
  /** Set while somebody waits: without it the object that holds this can be put to sleep. */
  timer?: ReturnType<typeof setTimeout>
}

/**
 * Answers that are being made, by key, so that who asks the same meanwhile waits for one instead of having another made.
 *
 * One whose leader failed is made by each that waits: what failed it may not fail them, and no error is anybody else's. Where the
 * leader's client only left, the first that waits makes it for the others.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /** Whether `id` is to make the answer of a key, because nobody else does. */
  lead(key: string, id: string): boolean {
    const flight = this.#flights.get(key)
    if (flight && flight.untilMs > Date.now()) return flight.leader === id
    this.#end(key, undefined)
    this.#flights.set(key, { leader: id, untilMs: Date.now() + FLIGHT_MS, waiting: new Map() })
    return true
  }

  /** Waits for the answer of a key; undefined when `id` is to make it itself. */
  follow(key: string, id: string): Promise<T | undefined> {
    const makes = this.lead(key, id)
    const flight = this.#flights.get(key)
    if (makes || !flight) return Promise.resolve(undefined)
    const { promise, resolve } = Promise.withResolvers<T | undefined>()
    flight.waiting.set(id, resolve)
    flight.timer ??= this.#endAt(key, flight.untilMs)
    return promise
  }

  /** The answer of a key is there. */
  landed(key: string, answer: T): void {
    this.#end(key, answer)
  }

  /** Nothing more comes of `id`, whether it made the answer or waited for it. */
  leave(key: string, id: string, how: LeaveReason): void {
    const flight = this.#flights.get(key)
    if (!flight) return
    if (flight.leader !== id) {
      flight.waiting.get(id)?.(undefined)
      flight.waiting.delete(id)
      return
    }
    const [next] = flight.waiting
    if (how === 'failed' || (how === 'left' && !next)) return this.#end(key, undefined)
    flight.untilMs = Date.now() + (how === 'whole' ? LANDING_MS : FLIGHT_MS)
    if (how === 'left' && next) {
      const [heir, tell] = next
      flight.leader = heir
      flight.waiting.delete(heir)
      tell(undefined)
    }
    clearTimeout(flight.timer)
    if (flight.waiting.size > 0) flight.timer = this.#endAt(key, flight.untilMs)
    else delete flight.timer
  }

  #endAt(key: string, atMs: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#end(key, undefined), atMs - Date.now())
  }

  #end(key: string, answer: T | undefined): void {
    const flight = this.#flights.get(key)
    if (!flight) return
    this.#flights.delete(key)
    clearTimeout(flight.timer)
    for (const tell of flight.waiting.values()) tell(answer)
  }
}
