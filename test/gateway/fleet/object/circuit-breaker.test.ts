import { expect, test } from 'vitest'
import { CircuitBreaker } from '../../../../gateway/src/fleet/object/circuit-breaker.ts'
import { NodeBreakers } from '../../../../gateway/src/fleet/object/node-breakers.ts'
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
    while (budget.spend('one', nowMs)) spent += 1
    return spent
  }
  expect(spendAll(0)).toBe(200)
  for (let request = 0; request < 50; request += 1) budget.earn('one', 0)
  expect(spendAll(0)).toBe(10)
  expect(spendAll(2_000)).toBe(20)
  expect(spendAll(3_600_000)).toBe(200)
})

test('a tenant whose requests all fail cannot use up the retries of others', () => {
  const budget = new RetryBudget()
  const spendAll = (tenant: string) => {
    let spent = 0
    while (budget.spend(tenant, 0)) spent += 1
    return spent
  }
  expect(spendAll('bad')).toBe(200)
  expect(spendAll('good')).toBe(100)
  for (let request = 0; request < 50; request += 1) budget.earn('bad', 0)
  expect(spendAll('good')).toBe(5)
})

test("the failures of one tenant open its own breaker on a node, and not that of other tenants'", () => {
  const breakers = new NodeBreakers()
  for (let failure = 0; failure < 10; failure += 1) breakers.recordFailure(`bad-${failure}`, 'bad', 0)
  expect(breakers.allows('bad', 999)).toBe(false)
  expect(breakers.nextProbeAtMs('bad')).toBe(1_000)
  expect(breakers.allows('good', 0)).toBe(true)
  expect(breakers.nextProbeAtMs('good')).toBeUndefined()
  breakers.recordSuccess('good')
  breakers.recordFailure('good-1', 'good', 0)
  expect(breakers.allows('good', 0)).toBe(true)
})

test('a node that fails for several tenants in a row gets no requests of anybody', () => {
  const breakers = new NodeBreakers()
  for (const id of ['a-1', 'a-2']) breakers.recordFailure(id, 'a', 0)
  expect(breakers.allows('c', 0)).toBe(true)
  breakers.recordFailure('b-1', 'b', 0)
  expect([breakers.allows('c', 999), breakers.nextProbeAtMs('c')]).toEqual([false, 1_000])
  breakers.recordSent('probe', 'c')
  expect(breakers.allows('d', 1_000)).toBe(false)
  breakers.recordToken('probe', 'c')
  expect(breakers.allows('d', 1_000)).toBe(true)
})

test('probes of a tenant whose requests fail do not keep a node from others', () => {
  const breakers = new NodeBreakers()
  for (const id of ['bad-1', 'bad-2']) breakers.recordFailure(id, 'bad', 0)
  breakers.recordFailure('good-1', 'good', 0)
  breakers.recordSent('bad-3', 'bad')
  breakers.recordFailure('bad-3', 'bad', 1_000)
  expect(breakers.allows('good', 1_000)).toBe(true)
  expect(breakers.allows('bad', 1_000)).toBe(false)
})
