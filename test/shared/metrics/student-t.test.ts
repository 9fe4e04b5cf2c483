import { describe, expect, test } from 'vitest'
import { studentQuantile } from '../../../shared/src/metrics/student-t.ts'

describe('quantiles of the t distribution', () => {
  // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2: upper critical values, three digits.
  test.each([
    [1, [3.078, 6.314, 12.706, 31.821, 63.657]],
    [2, [1.886, 2.92, 4.303, 6.965, 9.925]],
    [3, [1.638, 2.353, 3.182, 4.541, 5.841]],
    [5, [1.476, 2.015, 2.571, 3.365, 4.032]],
    [10, [1.372, 1.812, 2.228, 2.764, 3.169]],
    [15, [1.341, 1.753, 2.131, 2.602, 2.947]],
    [30, [1.31, 1.697, 2.042, 2.457, 2.75]],
    [100, [1.29, 1.66, 1.984, 2.364, 2.626]],
    [1e9, [1.282, 1.645, 1.96, 2.326, 2.576]],
  ])('with %d degrees of freedom are those of the published table', (degrees, row) => {
    for (const [index, probability] of [0.9, 0.95, 0.975, 0.99, 0.995].entries())
      expect(Math.abs(studentQuantile(probability, degrees) - (row[index] ?? 0))).toBeLessThan(0.00051)
  })

  test('have the closed forms of one and two degrees of freedom', () => {
    for (const probability of [0.51, 0.75, 0.95, 0.9999]) {
      expect(studentQuantile(probability, 1)).toBeCloseTo(Math.tan(Math.PI * (probability - 0.5)), 6)
      const a = 4 * probability * (1 - probability)
      expect(studentQuantile(probability, 2)).toBeCloseTo(
        (2 * (probability - 0.5) * Math.SQRT2) / Math.sqrt(a),
        9,
      )
    }
  })

  test('are symmetric, and fall with fractional degrees of freedom', () => {
    expect(studentQuantile(0.5, 7)).toBe(0)
    expect(studentQuantile(0.05, 7)).toBe(-studentQuantile(0.95, 7))
    const [one, between, two] = [4, 4.5, 5].map((degrees) => studentQuantile(0.95, degrees))
    expect(one).toBeGreaterThan(between ?? 0)
    expect(between).toBeGreaterThan(two ?? 0)
  })

  test.each([
    [0, 5],
    [1, 5],
    [Number.NaN, 5],
    [0.95, 0],
    [0.95, Number.NaN],
  ])('do not exist at probability %d with %d degrees of freedom', (probability, degrees) => {
    expect(() => studentQuantile(probability, degrees)).toThrow(RangeError)
  })
})
