import type { Unit } from '../../contracts/reservation.ts'

/** What was used in one second of Unix time. */
export interface Slot {
  second: number
  requests: number
  tokens: number
}

const WINDOW_S = 60

/**
 * Use over the last minute, second by second. A second leaves the window when it is a minute past as a whole, so no
 * minute, wherever it begins, ever holds more than what was let in (a bucket that is refilled lets in twice as much).
 */
export class SlidingMinute {
  #slots: Slot[]

  constructor(slots: readonly Slot[] = []) {
    this.#slots = slots.map((slot) => ({ ...slot }))
  }

  /** Counts a use now; a clock that went back counts in the newest second. */
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

  /** Corrects what was counted in a second, unless that has left the window. */
  correct(second: number, requests: number, tokens: number): void {
    const slot = this.#slots.find((candidate) => candidate.second === second)
    if (!slot) return
    slot.requests += requests
    slot.tokens += tokens
  }

  used(unit: Unit, nowMs: number): number {
    this.#drop(nowMs)
    return this.#slots.reduce((sum, slot) => sum + slot[unit], 0)
  }

  /** Milliseconds until `excess` of what is used has left. */
  waitMs(unit: Unit, excess: number, nowMs: number): number {
    this.#drop(nowMs)
    let left = excess
    for (const slot of this.#slots) {
      left -= slot[unit]
      if (left <= 0) return leavesAtMs(slot) - nowMs
    }
    return 0
  }

  /** Milliseconds until nothing of it is used any more. */
  resetMs(unit: Unit, nowMs: number): number {
    const last = this.#slots.findLast((slot) => slot[unit] > 0)
    return last ? Math.max(0, leavesAtMs(last) - nowMs) : 0
  }

  /** What to keep. */
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
