/** The bounds of a mean after some observations. */
export interface Bounds {
  count: number
  /** The mean of the observations; null before the first. */
  mean: number | null
  lower: number
  upper: number
}

/** The largest bet. The authors suggest 1/2 or 3/4; the latter is better for small variances, as those of paired gaps are. */
const MAX_BET = 0.75

/**
 * Bounds of the mean of values from 0 to 1 that hold at every time at once.
 *
 * The predictable plug-in empirical-Bernstein confidence sequence of Waudby-Smith and Ramdas, "Estimating means of bounded
 * random variables by betting", Journal of the Royal Statistical Society B 86 (2024), Theorem 2 with the bets of equation
 * (15). Each bound alone is wrong with probability `alpha` at most, at all times together, so one may look after every
 * value and stop when one likes. The values need no distribution and need not be independent: if their expectations
 * change, the bounds hold for the average of the expectations, weighted as the estimate weights the values. For that reason
 * bounds of different times are not intersected.
 */
export class ConfidenceSequence {
  readonly #logInverseAlpha: number
  #count = 0
  #sum = 0
  /** Sum of squared deviations from the mean at the time, for the variance that bets depend on. */
  #deviations = 0
  #bets = 0
  #betTimesValue = 0
  /** Σ vᵢ ψ(λᵢ): what the bounds pay for the variance. */
  #penalty = 0

  /** @param alpha the probability that one of the two bounds is ever wrong */
  constructor(alpha: number) {
    this.#logInverseAlpha = Math.log(1 / alpha)
  }

  /** Adds a value from 0 to 1. */
  add(value: number): void {
    // Mean and variance before this value, each with one value of a prior: 1/2, and variance 1/4.
    const mean = (0.5 + this.#sum) / (this.#count + 1)
    const variance = (0.25 + this.#deviations) / (this.#count + 1)
    const time = this.#count + 1
    const bet = Math.min(
      MAX_BET,
      Math.sqrt((2 * this.#logInverseAlpha) / (variance * time * Math.log(1 + time))),
    )
    this.#bets += bet
    this.#betTimesValue += bet * value
    // v = 4 (x − mean)², ψ(λ) = (−ln(1 − λ) − λ) / 4.
    this.#penalty += (value - mean) ** 2 * (-Math.log1p(-bet) - bet)
    this.#count = time
    this.#sum += value
    this.#deviations += (value - (0.5 + this.#sum) / (time + 1)) ** 2
  }

  /** Returns the bounds after the values so far. */
  bounds(): Bounds {
    if (this.#count === 0) return { count: 0, mean: null, lower: 0, upper: 1 }
    const centre = this.#betTimesValue / this.#bets
    const margin = (this.#logInverseAlpha + this.#penalty) / this.#bets
    return {
      count: this.#count,
      mean: this.#sum / this.#count,
      lower: Math.max(0, centre - margin),
      upper: Math.min(1, centre + margin),
    }
  }
}
