import {
  ALARM_THRESHOLDS,
  type CumulativeSum,
  type PageHinkleyState,
} from '../../../contracts/detector-state.ts'
import type { SignalRules } from './signals.ts'

/** Parameters of the test, in standard deviations of the signal. */
export interface PageHinkleyParameters {
  /** Deviation from the mean that is tolerated, δ. */
  tolerance: number
  /** Threshold of the statistic, λ. */
  threshold: number
  /** A single observation counts as at most this far from the mean. */
  maxDeviation: number
  /** Observations from which mean and deviation are learnt before any is judged. */
  warmUp: number
}

/** Calibrated by replay, see `docs/measurements/drift.md`. */
export const PAGE_HINKLEY: PageHinkleyParameters = {
  tolerance: 0.25,
  threshold: ALARM_THRESHOLDS.pageHinkley,
  maxDeviation: 4,
  warmUp: 100,
}

/** A change that a detector found: means before and after it, nats a token. */
export interface Change {
  before: number
  after: number
}

/** Creates the state of a test that has read nothing. */
export function startPageHinkley(): PageHinkleyState {
  return { count: 0, mean: 0, squares: 0, up: emptySum(), down: emptySum() }
}

/**
 * The test of Page (1954) and Hinkley (1971) for a change of the mean, in both directions, on a standardised and bounded signal.
 *
 * With m_t the mean and s_t the standard deviation of the observations so far, z_t = (x_t − m_{t−1}) / s_{t−1} bounded to
 * ±`maxDeviation`, and δ = max(`tolerance`, `minChange` / 2 s): U_t = max(0, U_{t−1} + z_t − δ) is the distance of the sum
 * Σ (z − δ) from its minimum, and likewise D_t = max(0, D_{t−1} − z_t − δ) that from its maximum. It alarms when one of them
 * exceeds λ. The change began where the sum was last zero, so the mean since then is that after the change.
 *
 * Values are changed in place.
 */
export class PageHinkley {
  readonly #state: PageHinkleyState
  readonly #rules: SignalRules
  readonly #parameters: PageHinkleyParameters

  constructor(state: PageHinkleyState, rules: SignalRules, parameters = PAGE_HINKLEY) {
    this.#state = state
    this.#rules = rules
    this.#parameters = parameters
  }

  /** The larger one of the sums that alarm, in deviations; it alarms above the threshold. */
  get statistic(): number {
    return Math.max(this.#state.up.sum, this.#state.down.sum)
  }

  /**
   * Reads an observation, nats a token.
   *
   * @returns the change if it alarms; the caller then starts it anew with {@link restart}
   */
  add(value: number): Change | undefined {
    const state = this.#state
    const found = state.count >= this.#parameters.warmUp ? this.#judge(value) : undefined
    state.count += 1
    const difference = value - state.mean
    state.mean += difference / state.count
    state.squares += difference * (value - state.mean)
    if (!found) return undefined
    const older = state.count - found.count
    const before = older > 0 ? (state.mean * state.count - found.total) / older : state.mean
    return { before, after: found.total / found.count }
  }

  /** Forgets all observations: the next ones are the new normal. */
  restart(): void {
    Object.assign(this.#state, startPageHinkley())
  }

  /** Returns the sum that an observation takes above the threshold, if it does. */
  #judge(value: number): CumulativeSum | undefined {
    const { count, mean, squares, up, down } = this.#state
    const { tolerance, threshold, maxDeviation } = this.#parameters
    const { minDeviation, minChange, twoSided } = this.#rules
    const scale = Math.max(minDeviation, Math.sqrt(squares / (count - 1)))
    const deviation = Math.max(-maxDeviation, Math.min(maxDeviation, (value - mean) / scale))
    const slack = Math.max(tolerance, minChange / 2 / scale)
    accumulate(up, deviation - slack, value)
    if (twoSided) accumulate(down, -deviation - slack, value)
    if (up.sum > threshold) return up
    return down.sum > threshold ? down : undefined
  }
}

function emptySum(): CumulativeSum {
  return { sum: 0, count: 0, total: 0 }
}

function accumulate(into: CumulativeSum, step: number, value: number): void {
  if (into.sum + step <= 0) {
    Object.assign(into, emptySum())
    return
  }
  into.sum += step
  into.count += 1
  into.total += value
}
