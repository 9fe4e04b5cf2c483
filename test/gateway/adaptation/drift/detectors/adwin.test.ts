import { expect, test } from 'vitest'
import { Adwin, ADWIN, startAdwin } from '../../../../../gateway/src/adaptation/drift/detectors/adwin.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'

const RULES = { bounds: [0, 8] } as const
const noise = (count: number, mean: number, seed = 1) => [...normals(createRandom(seed), count, mean, 0.4)]

/** The largest ratio by equation 3.1 over every cut of the window, from the values themselves. */
function largestRatio(values: readonly number[]): number {
  const mean = (of: readonly number[]) => of.reduce((sum, value) => sum + value, 0) / of.length
  const center = mean(values)
  const variance = mean(values.map((value) => (value - center) ** 2))
  const log = Math.log((2 * Math.log(values.length)) / ADWIN.confidence)
  let largest = 0
  for (let count = ADWIN.minPart; count <= values.length - ADWIN.minPart; count += 1) {
    const inverse = 1 / count + 1 / (values.length - count)
    const allowed = Math.sqrt(2 * inverse * variance * log) + (2 / 3) * 8 * inverse * log
    largest = Math.max(largest, Math.abs(mean(values.slice(0, count)) - mean(values.slice(count))) / allowed)
  }
  return largest
}

test('the window has all values of a stationary stream, in logarithmically many buckets', () => {
  const state = startAdwin()
  const window = new Adwin(state, RULES)
  const values = noise(20_000, 3)
  expect(values.map((value) => window.add(value)).filter(Boolean)).toEqual([])
  expect(window.count).toBe(20_000)
  expect(window.mean).toBeCloseTo(values.reduce((sum, value) => sum + value, 0) / values.length, 9)
  expect(JSON.stringify(state).length).toBeLessThan(4_096)
})

test('the difference that it reports is one of the largest over all cuts', () => {
  const state = startAdwin()
  const window = new Adwin(state, RULES)
  const values = [...noise(256, 3), ...noise(24, 3.3, 2)]
  for (const value of values) window.add(value)
  const largest = largestRatio(values)
  expect(state.ratio).toBeLessThanOrEqual(largest + 1e-9)
  expect(state.ratio).toBeGreaterThan(0.7 * largest)
})

test('a change of the mean is found, and the window keeps what came after it', () => {
  const window = new Adwin(startAdwin(), RULES)
  for (const value of noise(3_000, 3)) window.add(value)
  const found = noise(400, 3.7, 5)
    .map((value) => window.add(value))
    .find(Boolean)
  expect(found?.before).toBeCloseTo(3, 1)
  expect(found?.after).toBeGreaterThan(3.3)
  expect(window.count).toBeLessThan(1_000)
  expect(window.mean).toBeGreaterThan(3.4)
})

test('a state that was stored and read again goes on alike', () => {
  const values = [...noise(500, 3), ...noise(150, 4, 3)]
  const whole = new Adwin(startAdwin(), RULES)
  let state = startAdwin()
  for (const value of values) {
    const step = new Adwin(state, RULES).add(value)
    expect(step).toEqual(whole.add(value))
    state = JSON.parse(JSON.stringify(state)) as typeof state
  }
  expect(new Adwin(state, RULES).mean).toBe(whole.mean)
})
