import { ALARM_THRESHOLDS, type AdwinState } from '../../../contracts/detector-state.ts'
import type { Change } from './page-hinkley.ts'
import type { SignalRules } from './signals.ts'

/** Parameters of the window. */
export interface AdwinParameters {
  /** Probability of a false cut at a check, δ. */
  confidence: number
  /** Maximum buckets of one size, M. */
  bucketsPerLevel: number
  /** Observations between two checks. */
  checkEvery: number
  /** Neither part of a cut has fewer observations. */
  minPart: number
}

/** Calibrated by replay, see `docs/measurements/drift.md`. */
export const ADWIN: AdwinParameters = { confidence: 1e-4, bucketsPerLevel: 5, checkEvery: 8, minPart: 16 }

/** A part of the window: its observations, their total and the sum of squared deviations from their mean. */
interface Part {
  count: number
  total: number
  squares: number
}

/** Creates the state of a window that has read nothing. */
export function startAdwin(): AdwinState {
  return { levels: [], unchecked: 0, ratio: 0 }
}

/**
 * ADWIN, adaptive windowing (Bifet and Gavaldà 2007, "Learning from time-changing data with adaptive windowing", ADWIN2): a
 * window of the latest observations that drops its older part whenever the means of the two parts differ more than chance
 * explains. Its mean is therefore that of the present.
 *
 * The window is an exponential histogram: M buckets of each size 1, 2, 4, …; where there is one more, the two oldest become one
 * of twice the size. So n observations take O(M log n) numbers. With n₀ and n₁ observations in the parts, 1/m = 1/n₀ + 1/n₁,
 * δ' = δ / ln n, variance σ² of the window and range R of the signal, the parts differ if
 *
 *     |μ₀ − μ₁| > √(2/m · σ² · ln(2/δ')) + 2R/(3m) · ln(2/δ')
 *
 * which is equation 3.1 of the paper for a signal in [0, 1], scaled by R.
 *
 * Values are changed in place.
 */
export class Adwin {
  readonly #state: AdwinState
  readonly #range: number
  readonly #parameters: AdwinParameters

  constructor(state: AdwinState, { bounds: [least, most] }: Pick<SignalRules, 'bounds'>, parameters = ADWIN) {
    this.#state = state
    this.#range = most - least
    this.#parameters = parameters
  }

  /** The mean of the window; undefined while it is empty. */
  get mean(): number | undefined {
    const { count, total } = this.#whole()
    return count === 0 ? undefined : total / count
  }

  /** Observations in the window. */
  get count(): number {
    return this.#whole().count
  }

  /**
   * Reads an observation, nats a token within the bounds of the signal.
   *
   * @returns the change, if the window dropped its older part
   */
  add(value: number): Change | undefined {
    const state = this.#state
    const [first = []] = state.levels
    if (state.levels.length === 0) state.levels.push(first)
    first.push(value, 0)
    this.#compress()
    state.unchecked += 1
    if (state.unchecked < this.#parameters.checkEvery) return undefined
    state.unchecked = 0
    return this.#check()
  }

  #compress(): void {
    const { levels } = this.#state
    for (let level = 0; level < levels.length; level += 1) {
      const buckets = levels[level] ?? []
      if (buckets.length <= 2 * this.#parameters.bucketsPerLevel) return
      const [total0 = 0, squares0 = 0, total1 = 0, squares1 = 0] = buckets.splice(0, 4)
      const count = 2 ** level
      const joined = joinParts(
        { count, total: total0, squares: squares0 },
        { count, total: total1, squares: squares1 },
      )
      const next = levels[level + 1]
      if (next) next.push(joined.total, joined.squares)
      else levels.push([joined.total, joined.squares])
    }
  }

  /** Drops the oldest bucket as long as two parts of the window differ. The change is that of the first, surest cut. */
  #check(): Change | undefined {
    let change: Change | undefined
    for (;;) {
      const cut = this.#largestDifference()
      this.#state.ratio = cut?.ratio ?? 0
      if (!cut || cut.ratio <= ALARM_THRESHOLDS.adwin) return change
      change ??= { before: cut.before, after: cut.after }
      this.#dropOldest()
    }
  }

  /** Finds the two parts whose difference is the largest beside what chance explains. */
  #largestDifference(): (Change & { ratio: number }) | undefined {
    const { confidence, minPart } = this.#parameters
    const whole = this.#whole()
    if (whole.count < 2 * minPart) return undefined
    const variance = whole.squares / whole.count
    const log = Math.log((2 * Math.log(whole.count)) / confidence)
    let best: (Change & { ratio: number }) | undefined
    let count = 0
    let total = 0
    const { levels } = this.#state
    for (let level = levels.length - 1; level >= 0; level -= 1) {
      const buckets = levels[level] ?? []
      for (let at = 0; at < buckets.length; at += 2) {
        count += 2 ** level
        total += buckets[at] ?? 0
        const rest = whole.count - count
        if (rest < minPart) return best
        if (count < minPart) continue
        const before = total / count
        const after = (whole.total - total) / rest
        const inverse = 1 / count + 1 / rest
        const allowed = Math.sqrt(2 * inverse * variance * log) + (2 / 3) * this.#range * inverse * log
        const ratio = Math.abs(after - before) / allowed
        if (!best || ratio > best.ratio) best = { before, after, ratio }
      }
    }
    return best
  }

  #dropOldest(): void {
    const { levels } = this.#state
    const oldest = levels.at(-1)
    oldest?.splice(0, 2)
    while (levels.at(-1)?.length === 0) levels.pop()
  }

  #whole(): Part {
    let [count, total, squares] = [0, 0, 0]
    for (const [level, buckets] of this.#state.levels.entries()) {
      const each = 2 ** level
      for (let at = 0; at < buckets.length; at += 2) {
        const sum = buckets[at] ?? 0
        count += each
        total += sum
        squares += (buckets[at + 1] ?? 0) + (sum * sum) / each
      }
    }
    return { count, total, squares: count === 0 ? 0 : Math.max(0, squares - (total * total) / count) }
  }
}

/** Joins two parts of the same size; squared deviations add up with that between the two means. */
function joinParts(a: Part, b: Part): Part {
  const between = (a.total - b.total) ** 2 / (2 * a.count)
  return { count: 2 * a.count, total: a.total + b.total, squares: a.squares + b.squares + between }
}
