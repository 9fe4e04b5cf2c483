import { expect, test } from 'vitest'
import { createPairedBootstrap, type Interval } from '../../../../gpu-node/lab/results/bootstrap.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'

test('equal differences give an interval of that difference', () => {
  const bootstrap = createPairedBootstrap({ resamples: 1000, seed: 0 })
  const { mean, low, high } = bootstrap(Array.from({ length: 20 }, () => 0.25))
  expect([mean, low, high]).toEqual([0.25, 0.25, 0.25])
})

test('fewer than six windows, which may agree by chance, give a mean without interval', () => {
  const bootstrap = createPairedBootstrap({ resamples: 10, seed: 0 })
  expect(bootstrap([0.5])).toEqual({ mean: 0.5, low: null, high: null })
  expect(bootstrap([0.5, 0.5, 0.5, 1, 1])).toEqual({ mean: 0.7, low: null, high: null })
  expect(bootstrap([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])).toEqual({ mean: 0.5, low: 0.5, high: 0.5 })
})

test('with three windows of each of two values the interval excludes one-valued resamples and is stretched', () => {
  // One of 64 resamples is all 0, which is less than 2.5 %; seven have at most one 1.
  const { mean, low, high } = createPairedBootstrap({ resamples: 10_000, seed: 3 })([
    0, 0, 0, 1, 1, 1,
  ]) as Interval
  // The t quantile of 5 degrees of freedom divided by the normal one.
  const stretch = (2.5706 / 1.96) * Math.sqrt(6 / 5)
  expect(mean).toBe(0.5)
  expect(low).toBeCloseTo(0.5 - stretch / 3, 2)
  expect(high).toBeCloseTo(0.5 + stretch / 3, 2)
})

const exponentials = (random: () => number, count: number) =>
  Array.from({ length: count }, () => -Math.log(1 - random()))

test.each([
  { windows: 6, normal: 0.93, exponential: 0.87 },
  { windows: 8, normal: 0.93, exponential: 0.88 },
  { windows: 16, normal: 0.925, exponential: 0.89 },
  { windows: 30, normal: 0.93, exponential: 0.91 },
])(
  'of $windows windows as many intervals hold the mean as is said of them, normal or skewed',
  ({ windows, normal, exponential }) => {
    const bootstrap = createPairedBootstrap({ resamples: 1000, seed: 0 })
    const random = createRandom(21)
    const coverage = (draw: () => number[], truth: number) => {
      let held = 0
      for (let i = 0; i < 1500; i++) {
        const { low, high } = bootstrap(draw()) as Interval
        if (low <= truth && truth <= high) held++
      }
      return held / 1500
    }
    // Slightly more than three standard deviations of a binomial below the stated share.
    expect(coverage(() => Array.from(normals(random, windows, 0, 1)), 0)).toBeGreaterThan(normal)
    expect(coverage(() => exponentials(random, windows), 1)).toBeGreaterThan(exponential)
  },
)

test('for many normal differences the interval is 1.96 standard errors to either side', () => {
  const differences = Array.from(normals(createRandom(7), 400, 0.1, 0.5))
  const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length
  const variance = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / differences.length
  const halfWidth = 1.96 * Math.sqrt(variance / differences.length)
  const interval = createPairedBootstrap({ resamples: 10_000, seed: 0 })(differences) as Interval
  expect(interval.mean).toBeCloseTo(mean, 12)
  expect(Math.abs(interval.low - (mean - halfWidth))).toBeLessThan(0.05 * halfWidth)
  expect(Math.abs(interval.high - (mean + halfWidth))).toBeLessThan(0.05 * halfWidth)
})

test('about 95 of 100 intervals contain the true mean', () => {
  const random = createRandom(11)
  const bootstrap = createPairedBootstrap({ resamples: 500, seed: 0 })
  const held = Array.from({ length: 400 }, () => {
    const { low, high } = bootstrap(Array.from(normals(random, 60, 0, 1))) as Interval
    return low <= 0 && 0 <= high
  }).filter(Boolean).length
  // Three standard deviations of a binomial around 95 %, plus the shortfall of small samples.
  expect(held).toBeGreaterThan(400 * 0.9)
  expect(held).toBeLessThan(400 * 0.985)
})

test('the same seed gives the same interval, another seed another', () => {
  const differences = Array.from(normals(createRandom(5), 30, 0, 1))
  const once = createPairedBootstrap({ resamples: 200, seed: 1 })(differences)
  expect(createPairedBootstrap({ resamples: 200, seed: 1 })(differences)).toEqual(once)
  expect(createPairedBootstrap({ resamples: 200, seed: 2 })(differences)).not.toEqual(once)
})

test('swapping two methods negates the interval', () => {
  const differences = Array.from(normals(createRandom(9), 50, 0.2, 0.3))
  const bootstrap = createPairedBootstrap({ resamples: 2000, seed: 0 })
  const forward = bootstrap(differences) as Interval
  const opposite = bootstrap(differences.map((difference) => -difference)) as Interval
  expect(opposite.mean).toBeCloseTo(-forward.mean, 12)
  expect(opposite.low).toBeCloseTo(-forward.high, 12)
  expect(opposite.high).toBeCloseTo(-forward.low, 12)
})

test('no windows at all is a caller error', () => {
  expect(() => createPairedBootstrap({ resamples: 10, seed: 0 })([])).toThrow('no window')
})
