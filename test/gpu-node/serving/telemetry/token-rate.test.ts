import { expect, test } from 'vitest'
import { createTokenRate } from '../../../../gpu-node/src/serving/telemetry/token-rate.ts'

test('the rate is of the last ten seconds, and falls to 0 when nothing is generated', () => {
  let nowMs = 1_000_000
  const rate = createTokenRate(() => nowMs)
  expect(rate.perSecond()).toBe(0)
  for (let second = 0; second < 20; second++) {
    for (let step = 0; step < 10; step++) rate.count(3)
    nowMs += 1_000
  }
  nowMs -= 1_000
  expect(rate.perSecond()).toBe(30)
  nowMs += 5_000
  expect(rate.perSecond()).toBe(15)
  nowMs += 60_000
  expect(rate.perSecond()).toBe(0)
})
