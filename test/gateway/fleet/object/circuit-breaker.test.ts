import { expect, test } from 'vitest'
import { CircuitBreaker } from '../../../../gateway/src/fleet/object/circuit-breaker.ts'
import { RetryBudget } from '../../../../gateway/src/fleet/object/retry-budget.ts'

function opened(): CircuitBreaker {
  const breaker = new CircuitBreaker()
  for (const id of ['a', 'b', 'c']) breaker.recordFailure(id, 0)
  return breaker
}

test('a success between failures keeps a breaker closed', () => {
  const breaker = new CircuitBreaker()
  for (let turn = 0; turn < 5; turn += 1) {
    breaker.recordFailure('a', turn)
    breaker.recordFailure('b', turn)
    breaker.recordSuccess()
  }
  expect(breaker.allows(10)).toBe(true)
  expect(breaker.nextProbeAtMs()).toBeUndefined()
})

test('an open breaker lets one probe at a time through, after pauses that double up to 30 seconds', () => {
  const breaker = opened()
  let nowMs = 0
  for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    expect(breaker.nextProbeAtMs()).toBe(nowMs + pauseMs)
    expect(breaker.allows(nowMs + pauseMs - 1)).toBe(false)
    nowMs += pauseMs
    expect(breaker.allows(nowMs)).toBe(true)
    breaker.recordSent('probe')
    expect(breaker.allows(nowMs)).toBe(false)
    breaker.recordFailure('probe', nowMs)
  }
})

test('failures of requests from before the breaker opened do not extend its pause', () => {
  const breaker = opened()
  for (let late = 0; late < 20; late += 1) breaker.recordFailure(`late-${late}`, 900)
  expect(breaker.nextProbeAtMs()).toBe(1_000)
})

test('a probe whose client left makes room for another, and a successful one closes the breaker', () => {
  const breaker = opened()
  breaker.recordSent('left')
  breaker.recordEnd('left')
  expect(breaker.allows(1_000)).toBe(true)
  breaker.recordSent('good')
  breaker.recordSuccess()
  breaker.recordFailure('once', 1_100)
  expect(breaker.allows(1_100)).toBe(true)
})

test('the first token of the probe closes the breaker, and that of another request does not', () => {
  const breaker = opened()
  breaker.recordSent('probe')
  breaker.recordToken('older')
  expect(breaker.allows(2_000)).toBe(false)
  breaker.recordToken('probe')
  expect(breaker.allows(2_000)).toBe(true)
  for (const id of ['d', 'e', 'f']) breaker.recordFailure(id, 2_000)
  expect(breaker.nextProbeAtMs()).toBe(3_000)
})

test('retries are limited to a fifth of the requests plus a reserve that refills', () => {
  const budget = new RetryBudget()
  const spendAll = (nowMs: number) => {
    let spent = 0
    while (budget.spend(nowMs)) spent += 1
    return spent
  }
  expect(spendAll(0)).toBe(200)
  for (let request = 0; request < 50; request += 1) budget.earn(0)
  expect(spendAll(0)).toBe(10)
  expect(spendAll(2_000)).toBe(20)
  expect(spendAll(3_600_000)).toBe(200)
})
