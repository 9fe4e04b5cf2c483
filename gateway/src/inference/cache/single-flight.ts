import type { LeaveReason } from '../../contracts/response-cache-object.ts'

/** How long followers wait for a leader; after that each generates its own response. */
const MAX_WAIT_MS = 60_000
/** How long followers wait for the node to report a streamed response after the stream has ended. */
const STREAM_STORE_WAIT_MS = 2_000

interface Flight<T> {
  /** Id of the request that generates the response. */
  leader: string
  /** When followers stop waiting, Unix milliseconds. */
  untilMs: number
  /** Resolvers of the waiting requests by id, in order of arrival; undefined lets the request generate its own. */
  readonly followers: Map<string, (response: T | undefined) => void>
  /** Set only while a request waits: without a timer the Durable Object can hibernate. */
  timer?: ReturnType<typeof setTimeout>
}

/**
 * The responses that are being generated, by key, so that equal requests wait for one instead of generating another.
 *
 * If the leader fails, every follower generates its own response: the cause may not affect them, and an error is never
 * shared. If the leader's client only disconnected, the first follower becomes the leader of the others.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>()

  /** Makes `id` the leader of a key unless another request is; returns whether `id` leads. */
  lead(key: string, id: string): boolean {
    const flight = this.#flights.get(key)
    if (flight && flight.untilMs > Date.now()) return flight.leader === id
    this.#end(key, undefined)
    this.#flights.set(key, { leader: id, untilMs: Date.now() + MAX_WAIT_MS, followers: new Map() })
    return true
  }

  /** Waits for the response of a key; undefined when `id` must generate its own. */
  follow(key: string, id: string): Promise<T | undefined> {
    const leads = this.lead(key, id)
    const flight = this.#flights.get(key)
    if (leads || !flight) return Promise.resolve(undefined)
    const { promise, resolve } = Promise.withResolvers<T | undefined>()
    flight.followers.set(id, resolve)
    flight.timer ??= this.#scheduleEnd(key, flight.untilMs)
    return promise
  }

  /** Gives the response of a key to its followers. */
  complete(key: string, response: T): void {
    this.#end(key, response)
  }

  /** Removes `id`, which led or followed; `how` says how its request ended. */
  leave(key: string, id: string, how: LeaveReason): void {
    const flight = this.#flights.get(key)
    if (!flight) return
    if (flight.leader !== id) {
      flight.followers.get(id)?.(undefined)
      flight.followers.delete(id)
      return
    }
    const [next] = flight.followers
    if (how === 'failed' || (how === 'left' && !next)) return this.#end(key, undefined)
    flight.untilMs = Date.now() + (how === 'whole' ? STREAM_STORE_WAIT_MS : MAX_WAIT_MS)
    if (how === 'left' && next) {
      const [newLeader, resolve] = next
      flight.leader = newLeader
      flight.followers.delete(newLeader)
      resolve(undefined)
    }
    clearTimeout(flight.timer)
    if (flight.followers.size > 0) flight.timer = this.#scheduleEnd(key, flight.untilMs)
    else delete flight.timer
  }

  #scheduleEnd(key: string, atMs: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#end(key, undefined), atMs - Date.now())
  }

  #end(key: string, response: T | undefined): void {
    const flight = this.#flights.get(key)
    if (!flight) return
    this.#flights.delete(key)
    clearTimeout(flight.timer)
    for (const resolve of flight.followers.values()) resolve(response)
  }
}
