import { studentQuantile } from './student-t.ts'

/** Losses of two masks on the windows of one text, in the same order, nats a token. */
export interface PairedWindows {
  candidate: readonly number[]
  reference: readonly number[]
  /** Scored tokens of each window. */
  tokens: readonly number[]
}

/** An estimated mean with the variance of the estimate. */
export interface MeanEstimate {
  mean: number
  /** Variance of `mean`, not of the values; infinite where one value does not tell. */
  variance: number
  degreesOfFreedom: number
}

/** A mean with its one-sided confidence bounds, each of the same confidence. */
export interface BoundedMean {
  mean: number
  lower: number
  upper: number
}

/**
 * Estimates the mean difference of two masks' losses, nats a token; positive where the candidate is worse.
 *
 * The unit is the window: tokens of a window share their context, so their losses are not independent, and pairing removes
 * what makes a window easy or hard for both masks. Windows of short texts are shorter, so each counts by its tokens. The
 * mean is that of the tokens, `Σ n d / Σ n`; its variance is the linearised one of a ratio (Cochran 1977, 6.4), and with
 * equal windows the usual `s²/k` with `k − 1` degrees of freedom. With unequal ones `k` is Kish's effective number of
 * windows, `(Σ n)² / Σ n²`.
 */
export function meanDifference(windows: PairedWindows): MeanEstimate {
  const { tokens } = windows
  const differences = windows.candidate.map(
    (loss, window) => loss - (windows.reference[window] ?? Number.NaN),
  )
  const total = sum(tokens)
  const mean = sum(differences.map((difference, window) => difference * (tokens[window] ?? 0))) / total
  const count = differences.length
  if (count < 2) return { mean, variance: Number.POSITIVE_INFINITY, degreesOfFreedom: 0 }
  const shares = tokens.map((size) => size / total)
  const squares = differences.map((difference, window) => ((shares[window] ?? 0) * (difference - mean)) ** 2)
  const effective = 1 / sum(shares.map((share) => share * share))
  return {
    mean,
    variance: (sum(squares) * count) / (count - 1),
    degreesOfFreedom: Math.max(effective - 1, 1),
  }
}

/**
 * Estimates the weighted mean difference over several short texts, each of which has too few windows for a variance of its
 * own. They share one: that of a token, `σ² = Σ n (d − d̄)² / (k − m)` over the `k` windows around the means of the `m`
 * texts, so that a window of `n` tokens has the variance `σ²/n`.
 *
 * @param parts weights are relative
 */
export function pooledMeanDifference(
  parts: readonly { weight: number; windows: PairedWindows }[],
): MeanEstimate {
  const texts = parts.map(({ weight, windows }) => ({
    weight,
    windows,
    mean: meanDifference(windows).mean,
    size: sum(windows.tokens),
  }))
  const total = sum(texts.map(({ weight }) => weight))
  const mean = sum(texts.map((text) => (text.weight / total) * text.mean))
  const degreesOfFreedom = sum(texts.map(({ windows }) => windows.tokens.length - 1))
  if (degreesOfFreedom === 0) return { mean, variance: Number.POSITIVE_INFINITY, degreesOfFreedom }
  const squares = texts.flatMap(({ windows: { candidate, reference, tokens }, mean: center }) =>
    tokens.map((size, window) => {
      const difference = (candidate[window] ?? Number.NaN) - (reference[window] ?? Number.NaN)
      return size * (difference - center) ** 2
    }),
  )
  const ofToken = sum(squares) / degreesOfFreedom
  const variance = ofToken * sum(texts.map(({ weight, size }) => (weight / total) ** 2 / size))
  return { mean, variance, degreesOfFreedom }
}

/**
 * Estimates the weighted mean of independent estimates, such as those of several domains. The degrees of freedom are
 * those of Welch (1947) and Satterthwaite (1946).
 *
 * @param parts weights are relative; parts of weight 0 do not count
 */
export function weightedMean(parts: readonly { weight: number; estimate: MeanEstimate }[]): MeanEstimate {
  const total = sum(parts.map(({ weight }) => weight))
  const counted = parts
    .filter(({ weight }) => weight > 0)
    .map(({ weight, estimate }) => ({ ...estimate, share: weight / total }))
  const terms = counted.map(({ share, variance }) => share * share * variance)
  const variance = sum(terms)
  const curvature = sum(
    counted.map(({ degreesOfFreedom }, part) => (terms[part] ?? 0) ** 2 / degreesOfFreedom),
  )
  return {
    mean: sum(counted.map(({ share, mean }) => share * mean)),
    variance,
    // Without any variance the bound is the mean, whatever the degrees of freedom.
    degreesOfFreedom: variance === 0 ? Number.POSITIVE_INFINITY : variance ** 2 / curvature,
  }
}

/**
 * Returns the one-sided Student t bounds of a mean: `mean ± t(confidence, ν) · √variance`. They are infinite where the
 * variance is not known.
 */
export function boundMean(
  { mean, variance, degreesOfFreedom }: MeanEstimate,
  confidence: number,
): BoundedMean {
  if (variance === 0) return { mean, lower: mean, upper: mean }
  if (!Number.isFinite(variance) || !(degreesOfFreedom > 0))
    return { mean, lower: Number.NEGATIVE_INFINITY, upper: Number.POSITIVE_INFINITY }
  const margin = studentQuantile(confidence, degreesOfFreedom) * Math.sqrt(variance)
  return { mean, lower: mean - margin, upper: mean + margin }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
