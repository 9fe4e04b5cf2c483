import { createExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { createKey, ORIGIN } from '../support/requests/gateway-requests.ts'

/** Refusals that a caller gets at once before further ones are held back. */
const BURST = 3
/** The longest that one is held back. */
const HOLD_MS = 1_500
const ONE = '192.0.2.1'
const OTHER = '192.0.2.2'

/** Starts an isolate of its own, which answers three refusals a second at once. Returns the status of a request, or when it has one. */
function startIsolate(perSecond = String(BURST)) {
  const app = createApp()
  return (key: string, address: string) => {
    const asked = { status: 0, answer: Promise.resolve(0) }
    const request = new Request(`${ORIGIN}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'cf-connecting-ip': address },
      body: '{',
    })
    const bindings = { ...env, COPAL_REFUSALS_PER_SECOND: perSecond }
    const answer = Promise.resolve(app.fetch(request, bindings, createExecutionContext()))
    asked.answer = answer.then(({ status }) => (asked.status = status))
    return asked
  }
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'Date'] }))
afterEach(() => void vi.useRealTimers())

test('a client that goes on with refused requests waits about a second for each, and others do not', async () => {
  const ask = startIsolate()
  for (let refused = 0; refused < BURST; refused += 1) expect(await ask('sk-made-up', ONE).answer).toBe(401)
  const held = ask('sk-made-up', ONE)
  expect(await ask('sk-made-up', OTHER).answer).toBe(401)
  expect(held.status).toBe(0)
  await vi.advanceTimersByTimeAsync(HOLD_MS)
  expect(await held.answer).toBe(401)
})

test('requests with a valid key are counted for the key, wherever they come from', async () => {
  const ask = startIsolate()
  const { key } = await createKey()
  for (let refused = 0; refused < BURST; refused += 1) expect(await ask(key, ONE).answer).toBe(400)
  const held = ask(key, OTHER)
  // The address has no part in it.
  expect(await ask('sk-made-up', ONE).answer).toBe(401)
  expect(held.status).toBe(0)
  await vi.advanceTimersByTimeAsync(HOLD_MS)
  expect(await held.answer).toBe(400)
  expect(await ask(key, ONE).answer).toBe(400)
})

test('an isolate holds back at most 1,024 refusals, and none where the rate is 0', async () => {
  const ask = startIsolate()
  const flood = Array.from({ length: BURST + 1_024 + 5 }, () => ask('sk-made-up', ONE))
  const answered = () => flood.filter(({ status }) => status === 401).length
  // `vi.waitFor` would move the clock.
  while (answered() < BURST + 5) await scheduler.wait(20)
  expect(answered()).toBe(BURST + 5)
  await vi.advanceTimersByTimeAsync(HOLD_MS)
  expect(new Set(await Promise.all(flood.map(({ answer }) => answer)))).toEqual(new Set([401]))

  const askAtOnce = startIsolate('0')
  for (let refused = 0; refused < 2 * BURST; refused += 1)
    expect(await askAtOnce('sk-made-up', ONE).answer).toBe(401)
})
