/** Sums over values from 0 to 1. */
export interface UnitSums {
  count: number
  sum: number
  /** Sum of the squares of the values. */
  squares: number
}

/** The bounds of a mean after some values. */
export interface Bounds {
  count: number
  /** The mean of the values; null before the first. */
  mean: number | null
  lower: number
  upper: number
}

/**
 * The bets: large ones prove a large difference from few values, small ones a small difference from many. Each has its share of
 * the error: 1/2, 1/6, 1/12, 1/20 and 1/30, which sum to less than 1.
 */
const BETS = [0.8, 0.4, 0.2, 0.1, 0.05].map((bet, place) => ({
  bet,
  /** ψ(λ) = −ln(1 − λ) − λ: the price of the squared deviations. */
  price: -Math.log1p(-bet) - bet,
  share: 1 / ((place + 1) * (place + 2)),
}))

/**
 * Returns bounds of the mean of values from 0 to 1 that hold at every time at once, computed from their sums.
 *
 * For values with a mean of at most `m` and a bet `λ` from 0 to 1, `exp(λ Σ(x − m) − ψ(λ) Σ(x − m)²)` is a supermartingale (Fan, Grama
 * and Liu, "Exponential inequalities for martingales", EJP 2015, Proposition 4.1), and by Ville's inequality exceeds 1/α at any
 * time with probability `α` at most. The lower bound is the largest mean that is rejected by one of the bets. So one may look
 * after every value and stop when one likes, and each bound alone is wrong with probability `alpha` at most, at all times
 * together. The values need no distribution. If their expectations change, a mean is rejected only where the average of them is above it.
 */
export function boundsOf({ count, sum, squares }: UnitSums, alpha: number): Bounds {
  if (count === 0) return { count, mean: null, lower: 0, upper: 1 }
  const mirrored = { count, sum: count - sum, squares: count - 2 * sum + squares }
  return {
    count,
    mean: sum / count,
    lower: lowerBound({ count, sum, squares }, alpha),
    upper: 1 - lowerBound(mirrored, alpha),
  }
}

function lowerBound({ count, sum, squares }: UnitSums, alpha: number): number {
  const bounds = BETS.map(({ bet, price, share }) => {
    // The larger root of λ (Σx − n m) − ψ (Σx² − 2 m Σx + n m²) = ln(1 / (share · α)).
    const linear = 2 * price * sum - bet * count
    const constant = bet * sum - price * squares - Math.log(1 / (share * alpha))
    const discriminant = linear ** 2 + 4 * price * count * constant
    return discriminant < 0 ? 0 : (linear + Math.sqrt(discriminant)) / (2 * price * count)
  })
  return Math.min(1, Math.max(0, ...bounds))
}
