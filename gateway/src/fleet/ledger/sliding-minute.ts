import type { Unit } from '../../contracts/reservation.ts'

/** The usage in one second of Unix time. */
export interface Slot {
  second: number
  requests: number
  tokens: number
}

const WINDOW_S = 60

/**
 * Usage over the last minute in slots of one second. A slot leaves the window a full minute after its end, so no minute,
 * wherever it begins, contains more than the limit (a refilled token bucket would admit twice as much).
 */
export class SlidingMinute {
  #slots: Slot[]

  constructor(slots: readonly Slot[] = []) {
    this.#slots = slots.map((slot) => ({ ...slot }))
  }

  /** Adds usage and returns the second it was added to: the current one, or the newest if the clock went back. */
  add(nowMs: number, requests: number, tokens: number): number {
    const second = Math.floor(nowMs / 1000)
    const last = this.#slots.at(-1)
    if (last && last.second >= second) {
      last.requests += requests
      last.tokens += tokens
      return last.second
    }
    this.#slots.push({ second, requests, tokens })
    return second
  }

  /** Corrects the usage of a second unless it has left the window. */
  correct(second: number, requests: number, tokens: number): void {
    const slot = this.#slots.find((candidate) => candidate.second === second)
    if (!slot) return
    slot.requests += requests
    slot.tokens += tokens
  }

  /** Returns the usage in the window. */
  used(unit: Unit, nowMs: number): number {
    this.#drop(nowMs)
    return this.#slots.reduce((sum, slot) => sum + slot[unit], 0)
  }

  /** Returns the milliseconds until at least `excess` of the usage has left the window. */
  waitMs(unit: Unit, excess: number, nowMs: number): number {
    this.#drop(nowMs)
    let left = excess
    for (const slot of this.#slots) {
      left -= slot[unit]
      if (left <= 0) return leavesAtMs(slot) - nowMs
    }
    return 0
  }

  /** Returns the milliseconds until the window contains no usage. */
  resetMs(unit: Unit, nowMs: number): number {
    const last = this.#slots.findLast((slot) => slot[unit] > 0)
    return last ? Math.max(0, leavesAtMs(last) - nowMs) : 0
  }

  /** Returns copies of the slots in the window, to be stored. */
  slots(nowMs: number): Slot[] {
    this.#drop(nowMs)
    return this.#slots.map((slot) => ({ ...slot }))
  }

  #drop(nowMs: number): void {
    const kept = this.#slots.findIndex((slot) => leavesAtMs(slot) > nowMs)
    if (kept !== 0) this.#slots.splice(0, kept === -1 ? this.#slots.length : kept)
  }
}

function leavesAtMs(slot: Slot): number {
  return (slot.second + 1 + WINDOW_S) * 1000
}
