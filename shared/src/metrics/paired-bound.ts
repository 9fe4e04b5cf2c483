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
  /** Third central moment of `mean`, by which a skewed bound is corrected. */
  thirdMoment: number
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
  if (count < 2) return { mean, ...UNKNOWN_SPREAD }
  const shares = tokens.map((size) => size / total)
  const deviations = differences.map((difference, window) => (shares[window] ?? 0) * (difference - mean))
  const effective = 1 / sum(shares.map((share) => share * share))
  return {
    mean,
    variance: (sum(deviations.map((value) => value ** 2)) * count) / (count - 1),
    thirdMoment: unbiasedCubes(deviations),
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
  if (degreesOfFreedom === 0) return { mean, ...UNKNOWN_SPREAD }
  const residuals = texts.map(({ windows: { candidate, reference, tokens }, mean: center }) =>
    tokens.map((size, window) => ({
      size,
      value: (candidate[window] ?? Number.NaN) - (reference[window] ?? Number.NaN) - center,
    })),
  )
  const ofToken = sum(residuals.flat().map(({ size, value }) => size * value ** 2)) / degreesOfFreedom
  return {
    mean,
    variance: ofToken * sum(texts.map(({ weight, size }) => (weight / total) ** 2 / size)),
    thirdMoment: sum(
      texts.map(({ weight, size: tokens }, text) =>
        unbiasedCubes(
          (residuals[text] ?? []).map(({ size, value }) => ((weight / total) * size * value) / tokens),
        ),
      ),
    ),
    degreesOfFreedom,
  }
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
    thirdMoment: sum(counted.map(({ share, thirdMoment }) => share ** 3 * thirdMoment)),
    // Without any variance the bound is the mean, whatever the degrees of freedom.
    degreesOfFreedom: variance === 0 ? Number.POSITIVE_INFINITY : variance ** 2 / curvature,
  }
}

/**
 * Returns the one-sided bounds of a mean, each of the given confidence: Student's t, corrected for skewness. They are
 * infinite where the variance is not known.
 *
 * `mean + (t + g (1 + 2 t²) / 6) · √variance` with `t` the quantile and `g` the skewness of the mean (Johnson, JASA 1978;
 * Hall, JRSS B 1983). Without the correction, the bound of a mean with a long upper tail is too low too often: of samples
 * without a value of the tail both mean and variance are small. Only corrections that widen the bound are made, because the
 * skewness of a few windows is itself uncertain.
 */
export function boundMean(estimate: MeanEstimate, confidence: number): BoundedMean {
  const { mean, variance, thirdMoment, degreesOfFreedom } = estimate
  if (variance === 0) return { mean, lower: mean, upper: mean }
  if (!Number.isFinite(variance) || !(degreesOfFreedom > 0))
    return { mean, lower: Number.NEGATIVE_INFINITY, upper: Number.POSITIVE_INFINITY }
  const quantile = studentQuantile(confidence, degreesOfFreedom)
  const error = Math.sqrt(variance)
  const correction = ((thirdMoment / error ** 3) * (1 + 2 * quantile ** 2)) / 6
  return {
    mean,
    lower: mean - (quantile + Math.max(0, -correction)) * error,
    upper: mean + (quantile + Math.max(0, correction)) * error,
  }
}

/** The spread of a mean about which nothing is known. */
const UNKNOWN_SPREAD = { variance: Number.POSITIVE_INFINITY, thirdMoment: 0, degreesOfFreedom: 0 }

/** Returns the sum of cubes of deviations from their mean, scaled so that its expectation is the third moment of their sum. */
function unbiasedCubes(deviations: readonly number[]): number {
  const count = deviations.length
  if (count < 3) return 0
  return (sum(deviations.map((value) => value ** 3)) * count ** 2) / ((count - 1) * (count - 2))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
