import { describe, expect, test } from 'vitest'
import { createRandom } from '../../../support/harness/random.ts'
import { boundsOf, type UnitSums } from '../../../../gateway/src/adaptation/trials/confidence-sequence.ts'

/** Sums values one by one. */
class Sums implements UnitSums {
  count = 0
  sum = 0
  squares = 0

  add(value: number): void {
    this.count += 1
    this.sum += value
    this.squares += value ** 2
  }
}

/** The largest bet's evidence against a mean of at most `mean`, by the definition. */
function evidence(values: readonly number[], mean: number, bet: number): number {
  const price = -Math.log(1 - bet) - bet
  return values.reduce((sum, value) => sum + bet * (value - mean) - price * (value - mean) ** 2, 0)
}

describe('the bounds', () => {
  test('are where the evidence of the best bet is the logarithm of its share of the error', () => {
    const random = createRandom(7)
    const values = Array.from({ length: 300 }, () => (random() < 0.4 ? 1 : random()))
    const sums = new Sums()
    for (const value of values) sums.add(value)
    const { lower, upper, mean } = boundsOf(sums, 0.02)
    expect(mean).toBeCloseTo(values.reduce((sum, value) => sum + value, 0) / 300, 12)
    const excess = (of: readonly number[], bound: number) =>
      Math.max(
        ...[0.8, 0.4, 0.2, 0.1, 0.05].map(
          (bet, place) => evidence(of, bound, bet) - Math.log((place + 1) * (place + 2) * 50),
        ),
      )
    expect(excess(values, lower)).toBeCloseTo(0, 9)
    const mirrored = values.map((value) => 1 - value)
    expect(excess(mirrored, 1 - upper)).toBeCloseTo(0, 9)
    expect(upper - lower).toBeLessThan(0.3)
  })

  test('of no value are the range, and of one too', () => {
    expect(boundsOf(new Sums(), 0.1)).toEqual({ count: 0, mean: null, lower: 0, upper: 1 })
    expect(boundsOf({ count: 1, sum: 0.9, squares: 0.81 }, 0.1)).toEqual({
      count: 1,
      mean: 0.9,
      lower: 0,
      upper: 1,
    })
  })

  test('do not leave the range of the values, and close in on the mean', () => {
    const random = createRandom(1)
    const sums = new Sums()
    let width = 1
    for (let count = 1; count <= 20_000; count += 1) {
      sums.add(random() < 0.2 ? 1 : 0)
      const { lower, upper } = boundsOf(sums, 0.01)
      expect(lower >= 0 && upper <= 1 && lower <= upper).toBe(true)
      if (count % 5_000 > 0) continue
      expect(upper - lower).toBeLessThan(width)
      width = upper - lower
    }
    const { lower, upper } = boundsOf(sums, 0.01)
    expect(lower).toBeLessThan(0.2)
    expect(upper).toBeGreaterThan(0.2)
    expect(width).toBeLessThan(0.04)
  })
})

/** Distributions of values from 0 to 1, with their means. */
const DISTRIBUTIONS: [string, number, (random: () => number, turn: number) => number][] = [
  ['rare failures', 0.01, (random) => (random() < 0.01 ? 1 : 0)],
  ['even odds', 0.5, (random) => (random() < 0.5 ? 1 : 0)],
  ['gaps near zero with heavy tails', 0.5, (random) => heavyTailed(random)],
  ['small values with a rare large one', 0.11, (random) => (random() < 0.02 ? 1 : random() * (9 / 49))],
]

/** A gap of standard deviation about 0.1 around 0, clipped to ±0.5 and moved to 0…1: one in ten is four times as wide. */
function heavyTailed(random: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  const gap = normal * (random() < 0.1 ? 0.24 : 0.06)
  return Math.max(-0.5, Math.min(0.5, gap)) + 0.5
}

describe('in a simulation', () => {
  test.each(DISTRIBUTIONS)(
    'a bound on %s is ever wrong at most as often as promised, whenever one looks',
    (_, mean, draw) => {
      const [runs, length, alpha] = [400, 1_500, 0.1]
      let wrongBelow = 0
      let wrongAbove = 0
      for (let run = 0; run < runs; run += 1) {
        const random = createRandom(run)
        const sums = new Sums()
        let [isBelow, isAbove] = [false, false]
        for (let turn = 0; turn < length; turn += 1) {
          sums.add(draw(random, turn))
          // Looks after every value and would stop at the first bound that is wrong.
          const { lower, upper } = boundsOf(sums, alpha)
          isBelow ||= lower > mean
          isAbove ||= upper < mean
        }
        wrongBelow += Number(isBelow)
        wrongAbove += Number(isAbove)
      }
      const deviation = Math.sqrt(alpha * (1 - alpha) * runs)
      expect(wrongBelow).toBeLessThan(alpha * runs + 3 * deviation)
      expect(wrongAbove).toBeLessThan(alpha * runs + 3 * deviation)
    },
  )

  test('a fixed-time interval would be wrong far more often, if one stops when it suits', () => {
    const runs = 300
    const wrong = { fixed: 0, sequence: 0 }
    for (let run = 0; run < runs; run += 1) {
      const random = createRandom(10_000 + run)
      const sums = new Sums()
      let [sum, fixed, always] = [0, false, false]
      for (let count = 1; count <= 2_000; count += 1) {
        const value = random() < 0.5 ? 1 : 0
        sum += value
        sums.add(value)
        // One-sided normal bound at 95 %.
        if (count >= 30) fixed ||= sum / count - 1.645 * Math.sqrt(0.25 / count) > 0.5
        always ||= boundsOf(sums, 0.05).lower > 0.5
      }
      wrong.fixed += Number(fixed)
      wrong.sequence += Number(always)
    }
    expect(wrong.fixed).toBeGreaterThan(0.2 * runs)
    expect(wrong.sequence).toBeLessThanOrEqual(0.05 * runs)
  })

  test('a mean that changes is covered by the weighted average of the means', () => {
    const [runs, alpha] = [300, 0.1]
    let wrong = 0
    for (let run = 0; run < runs; run += 1) {
      const random = createRandom(20_000 + run)
      const sums = new Sums()
      let isWrong = false
      for (let turn = 0; turn < 1_000; turn += 1) {
        // The mean rises from 0.3 to 0.7 in the middle; no average of the means exceeds 0.7, and none is below 0.3.
        sums.add(random() < (turn < 500 ? 0.3 : 0.7) ? 1 : 0)
        const { lower, upper } = boundsOf(sums, alpha)
        isWrong ||= lower > 0.7 || upper < 0.3
      }
      wrong += Number(isWrong)
    }
    expect(wrong).toBeLessThanOrEqual(alpha * runs)
  })
})
