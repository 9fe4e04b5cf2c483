import { expect, test } from 'vitest'
import { createStepCosts } from '../../../../gpu-node/src/serving/engine/step-costs.ts'
import { createRandom } from '../../../support/harness/random.ts'

test('before any step one more token costs a tenth of a step', () => {
  expect(createStepCosts().costOfOneMore(1, 1)).toBeCloseTo(0.1)
})

test.each([
  { once: 10, each: 1 },
  { once: 1, each: 9 },
  { once: 20, each: 0.4 },
])('a step of $once ms and $each ms a token is learned through noise', ({ once, each }) => {
  const random = createRandom(1)
  const costs = createStepCosts()
  for (let step = 0; step < 400; step++) {
    const tokens = 1 + Math.floor(random() * 8)
    // One step in twenty waits for something else.
    const wait = random() < 0.05 ? 200 : 0
    costs.observe(tokens, (once + each * tokens) * (0.9 + 0.2 * random()) + wait)
  }
  for (const tokens of [1, 4]) {
    const expected = (each * tokens) / (once + each * tokens)
    expect(costs.costOfOneMore(tokens, tokens)).toBeGreaterThan(0.6 * expected)
    expect(costs.costOfOneMore(tokens, tokens)).toBeLessThanOrEqual(Math.min(1, 1.7 * expected))
  }
})

test('steps of one size alone say nothing of what a further token costs', () => {
  const random = createRandom(2)
  const costs = createStepCosts()
  for (let step = 0; step < 300; step++) costs.observe(1, 5 + random())
  expect(costs.costOfOneMore(1, 1)).toBeCloseTo(0.1)
})

test('a machine that becomes slower at more tokens is followed', () => {
  const costs = createStepCosts()
  for (let step = 0; step < 200; step++) costs.observe(1 + (step % 4), 10)
  expect(costs.costOfOneMore(1, 1)).toBeLessThan(0.02)
  for (let step = 0; step < 200; step++) costs.observe(1 + (step % 4), 10 * (1 + (step % 4)))
  expect(costs.costOfOneMore(1, 1)).toBeGreaterThan(0.7)
})

test.each([2, 3, 6])('first steps of a size that take %d times as long do not end drafts', (factor) => {
  const costs = createStepCosts()
  const seen = new Map<number, number>()
  let drafted = 0
  for (let step = 0; step < 150; step++) {
    // Every second draft is right. The first steps have none.
    let [tokens, expected, chance] = [1, 1, 0.5]
    while (step >= 50 && tokens < 8 && chance > costs.costOfOneMore(tokens, expected)) {
      tokens += 1
      expected += chance
      chance *= 0.5
    }
    const before = seen.get(tokens) ?? 0
    seen.set(tokens, before + 1)
    costs.observe(tokens, (10 + 0.1 * tokens) * (before < 2 ? factor : 1))
    if (step >= 70) drafted += tokens - 1
  }
  expect(drafted / 80).toBeGreaterThan(4)
})

test('one more token is worth less the more a step is expected to sample already', () => {
  const costs = createStepCosts()
  for (let step = 0; step < 200; step++) costs.observe(1 + (step % 4), 10 + 5 * (1 + (step % 4)))
  // Two tokens take 20 ms, of which one is expected to be sampled, or both.
  expect(costs.costOfOneMore(2, 1)).toBeCloseTo(0.25, 1)
  expect(costs.costOfOneMore(2, 2)).toBeCloseTo(0.5, 1)
})

test('a step without time says nothing', () => {
  const costs = createStepCosts()
  costs.observe(1, 0)
  for (let step = 0; step < 100; step++) costs.observe(1 + (step % 4), 10)
  expect(costs.costOfOneMore(1, 1)).toBeLessThan(0.02)
})
