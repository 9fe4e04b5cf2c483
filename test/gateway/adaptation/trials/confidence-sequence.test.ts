import { describe, expect, test } from 'vitest'
import { createRandom } from '../../../support/harness/random.ts'
import { ConfidenceSequence } from '../../../../gateway/src/adaptation/trials/confidence-sequence.ts'

/** The formulas of the paper, evaluated on all values at once. */
function boundsByFormula(values: readonly number[], alpha: number): { lower: number; upper: number } {
  const log = Math.log(1 / alpha)
  const mean = (count: number) => (0.5 + values.slice(0, count).reduce((sum, x) => sum + x, 0)) / (count + 1)
  const variance = (count: number) =>
    (0.25 + values.slice(0, count).reduce((sum, x, index) => sum + (x - mean(index + 1)) ** 2, 0)) /
    (count + 1)
  const bets = values.map((_, index) => {
    const t = index + 1
    return Math.min(0.75, Math.sqrt((2 * log) / (variance(index) * t * Math.log(1 + t))))
  })
  const total = bets.reduce((sum, bet) => sum + bet, 0)
  const centre = bets.reduce((sum, bet, index) => sum + bet * (values[index] ?? 0), 0) / total
  const penalty = bets.reduce((sum, bet, index) => {
    const psi = (-Math.log(1 - bet) - bet) / 4
    return sum + 4 * ((values[index] ?? 0) - mean(index)) ** 2 * psi
  }, 0)
  const margin = (log + penalty) / total
  return { lower: Math.max(0, centre - margin), upper: Math.min(1, centre + margin) }
}

describe('the bounds', () => {
  test('are those of the theorem, computed by hand', () => {
    // α = e⁻², so ln(1/α) = 2. Bets: min(3/4, √(2·2 / (σ²·t·ln(1+t)))), σ² = 1/4 before the first value.
    const sequence = new ConfidenceSequence(Math.exp(-2))
    expect(sequence.bounds()).toEqual({ count: 0, mean: null, lower: 0, upper: 1 })
    sequence.add(0.9)
    // The bet is 3/4. Centre 0.9; ψ·4 = −ln(1/4) − 3/4 = 0.636294; margin (2 + 0.4²·0.636294) / 0.75 = 2.802409.
    expect(sequence.bounds()).toEqual({ count: 1, mean: 0.9, lower: 0, upper: 1 })
    for (const value of [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]) sequence.add(value)
    // Values of 0.5 meet the means 0.7, 0.6333, 0.6, 0.58, 0.5667, 0.5571, 0.55, 0.5444, 0.54. Each bet is 3/4, as the
    // variance is at most 1/4 and t·ln(1+t) at most 23.98. Squared deviations: 0.16 + 0.04 + 0.017778 + 0.01 + 0.0064 +
    // 0.004444 + 0.003265 + 0.0025 + 0.001975 + 0.0016 = 0.247963. Centre 0.54, margin (2 + 0.247963·0.636294) / 7.5.
    const margin = (2 + 0.247963 * 0.636294) / 7.5
    const { lower, upper, mean } = sequence.bounds()
    expect(mean).toBeCloseTo(0.54, 12)
    expect(lower).toBeCloseTo(0.54 - margin, 6)
    expect(upper).toBeCloseTo(0.54 + margin, 6)
  })

  test('equal the formulas of the paper where bets are smaller than the largest one', () => {
    const random = createRandom(7)
    const values = Array.from({ length: 300 }, () => (random() < 0.4 ? 1 : random()))
    const sequence = new ConfidenceSequence(0.02)
    for (const value of values) sequence.add(value)
    const { lower, upper } = boundsByFormula(values, 0.02)
    expect(sequence.bounds().lower).toBeCloseTo(lower, 10)
    expect(sequence.bounds().upper).toBeCloseTo(upper, 10)
    expect(upper - lower).toBeLessThan(0.3)
  })

  test('do not leave the range of the values, and close in on the mean', () => {
    const random = createRandom(1)
    const sequence = new ConfidenceSequence(0.01)
    let width = 1
    for (let count = 1; count <= 20_000; count += 1) {
      sequence.add(random() < 0.2 ? 1 : 0)
      const { lower, upper } = sequence.bounds()
      expect(lower >= 0 && upper <= 1 && lower <= upper).toBe(true)
      if (count % 5_000 > 0) continue
      expect(upper - lower).toBeLessThan(width)
      width = upper - lower
    }
    const { lower, upper } = sequence.bounds()
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
        const sequence = new ConfidenceSequence(alpha)
        let [isBelow, isAbove] = [false, false]
        for (let turn = 0; turn < length; turn += 1) {
          sequence.add(draw(random, turn))
          // Looks after every value and would stop at the first bound that is wrong.
          const { lower, upper } = sequence.bounds()
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
      const sequence = new ConfidenceSequence(0.05)
      let [sum, fixed, always] = [0, false, false]
      for (let count = 1; count <= 2_000; count += 1) {
        const value = random() < 0.5 ? 1 : 0
        sum += value
        sequence.add(value)
        // One-sided normal bound at 95 %.
        if (count >= 30) fixed ||= sum / count - 1.645 * Math.sqrt(0.25 / count) > 0.5
        always ||= sequence.bounds().lower > 0.5
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
      const sequence = new ConfidenceSequence(alpha)
      let isWrong = false
      for (let turn = 0; turn < 1_000; turn += 1) {
        // The mean rises from 0.3 to 0.7 in the middle; no average of the means exceeds 0.7, and none is below 0.3.
        sequence.add(random() < (turn < 500 ? 0.3 : 0.7) ? 1 : 0)
        const { lower, upper } = sequence.bounds()
        isWrong ||= lower > 0.7 || upper < 0.3
      }
      wrong += Number(isWrong)
    }
    expect(wrong).toBeLessThanOrEqual(alpha * runs)
  })
})
