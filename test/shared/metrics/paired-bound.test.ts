import { describe, expect, test } from 'vitest'
import {
  boundMean,
  meanDifference,
  pooledMeanDifference,
  weightedMean,
} from '../../../shared/src/metrics/paired-bound.ts'

const windows = (candidate: number[], reference: number[], tokens = candidate.map(() => 511)) => ({
  candidate,
  reference,
  tokens,
})

describe('the mean difference of two masks', () => {
  test('is that of the windows, with the variance s²/k', () => {
    // Differences 0.1, 0.3, 0.2, 0.2: mean 0.2, s² = (0.01 + 0.01)/3.
    const estimate = meanDifference(windows([1.1, 2.3, 3.2, 4.2], [1, 2, 3, 4]))
    expect(estimate.mean).toBeCloseTo(0.2, 12)
    expect(estimate.variance).toBeCloseTo(0.02 / 3 / 4, 12)
    expect(estimate.degreesOfFreedom).toBeCloseTo(3, 12)
    // t(0.95, 3) = 2.353; the standard error is 0.040825.
    const bounded = boundMean(estimate, 0.95)
    expect(bounded.upper).toBeCloseTo(0.2 + 2.353 * 0.040825, 4)
    expect(bounded.lower).toBeCloseTo(0.2 - 2.353 * 0.040825, 4)
  })

  test('does not depend on how hard a window is for both', () => {
    const easy = meanDifference(windows([1.1, 2.3], [1, 2]))
    const hard = meanDifference(windows([1.1 + 5, 2.3 + 9], [1 + 5, 2 + 9]))
    expect(hard.mean).toBeCloseTo(easy.mean, 12)
    expect(hard.variance).toBeCloseTo(easy.variance, 12)
  })

  test('counts a window by its tokens', () => {
    // Differences 1 on 300 tokens and 0 on 100: mean 3/4; squares (3/4 · 1/4)² + (1/4 · 3/4)² = 9/128, times k/(k − 1) = 2.
    const estimate = meanDifference(windows([2, 1], [1, 1], [300, 100]))
    expect(estimate.mean).toBeCloseTo(0.75, 12)
    expect(estimate.variance).toBeCloseTo(9 / 64, 12)
    // Effective windows 1/(9/16 + 1/16) = 1.6; at least one degree of freedom.
    expect(estimate.degreesOfFreedom).toBe(1)
    expect(
      meanDifference(windows([2, 1, 1, 1], [1, 1, 1, 1], [300, 300, 100, 100])).degreesOfFreedom,
    ).toBeCloseTo(800 ** 2 / 200_000 - 1, 12)
  })

  test('of one window has no bound', () => {
    expect(boundMean(meanDifference(windows([1], [2])), 0.95)).toEqual({
      mean: -1,
      lower: Number.NEGATIVE_INFINITY,
      upper: Number.POSITIVE_INFINITY,
    })
  })

  test('is bounded higher where some windows lose much more than the others, and never lower', () => {
    // Differences 0, 0, 0, 0.4: mean 0.1, s² = 0.04, variance 0.01; k₃ = 4 · 0.024 / (3 · 2) = 0.016, of the mean 0.001.
    const skewed = meanDifference(windows([0, 0, 0, 0.4], [0, 0, 0, 0]))
    expect(skewed.variance).toBeCloseTo(0.01, 12)
    expect(skewed.thirdMoment).toBeCloseTo(0.001, 12)
    // Skewness 0.001 / 0.1³ = 1; t(0.95, 3) = 2.35336.
    const bounded = boundMean(skewed, 0.95)
    expect(bounded.upper).toBeCloseTo(0.1 + 0.1 * (2.35336 + (1 + 2 * 2.35336 ** 2) / 6), 5)
    expect(bounded.lower).toBeCloseTo(0.1 - 0.1 * 2.35336, 5)
    const mirrored = boundMean(meanDifference(windows([0, 0, 0, -0.4], [0, 0, 0, 0])), 0.95)
    expect([mirrored.lower, mirrored.upper]).toEqual([-bounded.upper, -bounded.lower])
  })

  test('without any spread is its own bound', () => {
    expect(boundMean(meanDifference(windows([2, 3], [2, 3])), 0.95)).toEqual({ mean: 0, lower: 0, upper: 0 })
  })
})

describe('the pooled mean of short texts', () => {
  test('takes the spread around the means of the texts, not between them', () => {
    // Text a: differences 1, 3 (mean 2); b: 10, 12 (mean 11). All windows have 100 tokens.
    const a = windows([1, 3], [0, 0], [100, 100])
    const b = windows([10, 12], [0, 0], [100, 100])
    const estimate = pooledMeanDifference([
      { weight: 1, windows: a },
      { weight: 3, windows: b },
    ])
    expect(estimate.mean).toBeCloseTo((2 + 3 * 11) / 4, 12)
    expect(estimate.degreesOfFreedom).toBe(2)
    // σ² = 100 · (1 + 1 + 1 + 1) / 2 = 200 a token; variance 200 · ((1/4)² + (3/4)²) / 200 = 0.625.
    expect(estimate.variance).toBeCloseTo(0.625, 12)
  })

  test('of single windows has no variance', () => {
    const single = { weight: 1, windows: windows([1], [0]) }
    expect(pooledMeanDifference([single, single]).variance).toBe(Number.POSITIVE_INFINITY)
  })
})

describe('the weighted mean of domains', () => {
  test('has the degrees of freedom of Welch and Satterthwaite', () => {
    const estimate = weightedMean([
      { weight: 3, estimate: { mean: 0.1, variance: 0.0004, thirdMoment: 4e-6, degreesOfFreedom: 15 } },
      { weight: 1, estimate: { mean: -0.3, variance: 0.0016, thirdMoment: -8e-6, degreesOfFreedom: 7 } },
      {
        weight: 0,
        estimate: { mean: 99, variance: Number.POSITIVE_INFINITY, thirdMoment: 0, degreesOfFreedom: 0 },
      },
    ])
    expect(estimate.mean).toBeCloseTo(0.75 * 0.1 - 0.25 * 0.3, 12)
    // Terms 9/16 · 0.0004 = 0.000225 and 1/16 · 0.0016 = 0.0001.
    expect(estimate.variance).toBeCloseTo(0.000325, 12)
    expect(estimate.thirdMoment).toBeCloseTo(0.75 ** 3 * 4e-6 - 0.25 ** 3 * 8e-6, 15)
    expect(estimate.degreesOfFreedom).toBeCloseTo(0.000325 ** 2 / (0.000225 ** 2 / 15 + 0.0001 ** 2 / 7), 9)
  })
})
