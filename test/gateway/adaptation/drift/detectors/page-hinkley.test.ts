import { expect, test } from 'vitest'
import {
  PAGE_HINKLEY,
  PageHinkley,
  startPageHinkley,
} from '../../../../../gateway/src/adaptation/drift/detectors/page-hinkley.ts'
import { SIGNALS } from '../../../../../gateway/src/adaptation/drift/detectors/signals.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'

const RULES = { bounds: [0, 8], minChange: 0, minDeviation: 0, twoSided: true } as const
const noise = (count: number, mean: number, seed = 1) => [...normals(createRandom(seed), count, mean, 0.4)]

/** The statistic by the formula of the paper, Σ (z − δ) minus its minimum so far, summed anew for each observation. */
function statistics(values: readonly number[], { tolerance, maxDeviation, warmUp } = PAGE_HINKLEY): number[] {
  const mean = (of: readonly number[]) => of.reduce((sum, value) => sum + value, 0) / of.length
  let sum = 0
  let least = 0
  return values.map((value, index) => {
    if (index < warmUp) return 0
    const before = values.slice(0, index)
    const center = mean(before)
    const scale = Math.sqrt(before.reduce((all, each) => all + (each - center) ** 2, 0) / (index - 1))
    sum += Math.max(-maxDeviation, Math.min(maxDeviation, (value - center) / scale)) - tolerance
    least = Math.min(least, sum)
    return sum - least
  })
}

test('the statistic is the distance of the sum of deviations from its minimum', () => {
  const values = [...noise(150, 3), ...noise(40, 3.6, 2)]
  const detector = new PageHinkley(
    startPageHinkley(),
    { ...RULES, twoSided: false },
    { ...PAGE_HINKLEY, threshold: 1e9 },
  )
  const expected = statistics(values)
  for (const [index, value] of values.entries()) {
    detector.add(value)
    expect(detector.statistic).toBeCloseTo(expected[index] ?? Number.NaN, 8)
  }
  expect(detector.statistic).toBeGreaterThan(5)
})

test('a rise and a fall of a deviation are found within 100 observations, with the means before and after', () => {
  for (const to of [3.4, 2.6]) {
    const detector = new PageHinkley(startPageHinkley(), RULES)
    const before = noise(2_000, 3)
    expect(before.map((value) => detector.add(value)).filter(Boolean)).toEqual([])
    const found = noise(100, to, 3)
      .map((value) => detector.add(value))
      .find(Boolean)
    expect(found?.before).toBeCloseTo(3, 1)
    expect(found?.after).toBeCloseTo(to, 0.5)
  }
})

test('no single observation alarms, however far it is', () => {
  const detector = new PageHinkley(startPageHinkley(), RULES)
  for (const value of noise(500, 3)) detector.add(value)
  for (let count = 0; count < Math.floor(PAGE_HINKLEY.threshold / PAGE_HINKLEY.maxDeviation) - 1; count += 1)
    expect(detector.add(8)).toBeUndefined()
})

test('a change below the smallest that matters never alarms, and a falling gap does not either', () => {
  const small = new PageHinkley(startPageHinkley(), SIGNALS.dense)
  const falling = new PageHinkley(startPageHinkley(), SIGNALS.gap)
  const constant = (value: number, count: number) => Array.from({ length: count }, () => value)
  const found = [...constant(3, 200), ...constant(3.04, 20_000)].map((value) => small.add(value))
  found.push(...[...constant(0.5, 200), ...constant(0.1, 2_000)].map((value) => falling.add(value)))
  expect(found.filter(Boolean)).toEqual([])
})

test('a state that was stored and read again goes on alike', () => {
  const values = [...noise(300, 3), ...noise(60, 3.3, 4)]
  const whole = new PageHinkley(startPageHinkley(), RULES)
  let state = startPageHinkley()
  for (const value of values) {
    whole.add(value)
    new PageHinkley(state, RULES).add(value)
    state = JSON.parse(JSON.stringify(state)) as typeof state
  }
  expect(new PageHinkley(state, RULES).statistic).toBe(whole.statistic)
})
