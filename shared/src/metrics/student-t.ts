/** Terms of the continued fraction below; it converges within some tens for the degrees of freedom of a gate. */
const MAX_TERMS = 500
const PRECISION = 1e-14
/** Smallest magnitude of a denominator in Lentz's method. */
const TINY = 1e-300
/** Above this the distribution is normal to four digits, and the continued fraction would need more terms. */
const MAX_DEGREES = 1e5

/**
 * Returns the quantile of Student's t distribution: the `t` with `P(T ≤ t) = probability`.
 *
 * Written out because it needs one function: jStat brings 1.9 MB that cannot be split, and `@stdlib`'s quantile some
 * sixty packages. The test compares it with published tables.
 *
 * @param probability above 0 and below 1
 * @param degrees degrees of freedom, above 0, not necessarily whole
 * @throws RangeError for values outside of these bounds
 */
export function studentQuantile(probability: number, degrees: number): number {
  if (!(probability > 0 && probability < 1)) throw new RangeError(`no quantile at probability ${probability}`)
  if (!(degrees > 0)) throw new RangeError(`no t distribution with ${degrees} degrees of freedom`)
  if (probability < 0.5) return -studentQuantile(1 - probability, degrees)
  if (probability === 0.5) return 0
  const nu = Math.min(degrees, MAX_DEGREES)
  let low = 0
  let high = 1
  while (studentProbability(high, nu) < probability && high < Number.MAX_VALUE / 4) high *= 2
  // Bisection halves the error with each step, until the two neighbours are the same number.
  for (;;) {
    const middle = low + (high - low) / 2
    if (middle <= low || middle >= high) return middle
    if (studentProbability(middle, nu) < probability) low = middle
    else high = middle
  }
}

/** Returns `P(T ≤ t)` of Student's t distribution, for `t ≥ 0`. */
function studentProbability(t: number, degrees: number): number {
  return 1 - regularizedBeta(degrees / (degrees + t * t), degrees / 2, 1 / 2) / 2
}

/**
 * Returns the regularized incomplete beta function `I_x(a, b)` (NIST DLMF 8.17), by the continued fraction 8.17.22,
 * evaluated with Lentz's method as modified by Thompson and Barnett (1986).
 */
function regularizedBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0
  if (x >= 1) return 1
  // The fraction converges fast on this side only; the other follows from the symmetry 8.17.4.
  if (x > (a + 1) / (a + b + 2)) return 1 - regularizedBeta(1 - x, b, a)
  const logBeta = logGamma(a) + logGamma(b) - logGamma(a + b)
  const factor = Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logBeta) / a
  let c = 1
  let d = 1 / awayFromZero(1 - ((a + b) * x) / (a + 1))
  let fraction = d
  for (let m = 1; m <= MAX_TERMS; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / awayFromZero(1 + even * d)
    c = awayFromZero(1 + even / c)
    fraction *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / awayFromZero(1 + odd * d)
    c = awayFromZero(1 + odd / c)
    fraction *= d * c
    if (Math.abs(d * c - 1) < PRECISION) break
  }
  return factor * fraction
}

function awayFromZero(value: number): number {
  return Math.abs(value) < TINY ? TINY : value
}

/** Coefficients of Lanczos' approximation with g = 7 and nine terms (Godfrey 2001); relative error below 1e-13. */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
] as const

/** Returns the logarithm of the gamma function, for `z > 0`. */
function logGamma(z: number): number {
  // Below 1/2 by the recurrence, since the approximation is for the right half plane.
  if (z < 0.5) return logGamma(z + 1) - Math.log(z)
  const base = z + 6.5
  let sum: number = LANCZOS[0]
  for (let k = 1; k < LANCZOS.length; k++) sum += (LANCZOS[k] ?? 0) / (z - 1 + k)
  return Math.log(2 * Math.PI) / 2 + (z - 0.5) * Math.log(base) - base + Math.log(sum)
}
