import { describe, expect, test } from 'vitest'
import { Ledger } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import {
  DEFAULT_COMPLETION_TOKENS,
  MIN_COMPLETION_TOKENS,
} from '../../../../gateway/src/fleet/ledger/reservation-rules.ts'
import { reservationRequest, key, START_MS, storeChanges, tenant } from '../../support/state/ledger.ts'

describe('requests per minute', () => {
  test('are admitted up to the limit and rejected beyond it, with the time until one more fits', () => {
    const ledger = new Ledger()
    const accounts = [key({ requestsPerMinute: 2 })]
    expect(ledger.reserve(reservationRequest('a', accounts), START_MS)).toMatchObject({
      ok: true,
      rates: { requests: { limit: 2, remaining: 1 } },
    })
    ledger.reserve(reservationRequest('b', accounts), START_MS + 20_000)
    const refused = ledger.reserve(reservationRequest('c', accounts), START_MS + 30_000)
    expect(refused).toMatchObject({
      ok: false,
      rejection: { kind: 'key', limit: 'requests', allowed: 2, remaining: 0, retryAfterMs: 31_000 },
    })
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS + 60_999).ok).toBe(false)
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS + 61_000).ok).toBe(true)
    expect(ledger.reserve(reservationRequest('d', accounts), START_MS + 61_000).ok).toBe(false)
  })

  test('that are rejected use nothing of any account', () => {
    const ledger = new Ledger()
    const accounts = [key({ requestsPerMinute: 5, tokensPerMonth: 1_000 }), tenant({ requestsPerMinute: 1 })]
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    for (let index = 0; index < 20; index += 1) {
      const refused = ledger.reserve(reservationRequest(`b${index}`, accounts), START_MS)
      expect(refused).toMatchObject({ ok: false, rejection: { kind: 'tenant' } })
    }
    const alone = [key({ requestsPerMinute: 5, tokensPerMonth: 1_000 })]
    expect(ledger.reserve(reservationRequest('c', alone), START_MS)).toMatchObject({
      ok: true,
      rates: { requests: { remaining: 3 } },
    })
  })
})

describe('tokens', () => {
  test('are reserved before the request and settled once after it', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 250 })]
    const left = () => {
      const probe = ledger.reserve(
        reservationRequest('probe', accounts, { maxTokens: 0, promptTokens: 0 }),
        START_MS,
      )
      ledger.cancel('probe', START_MS)
      return probe.ok ? probe.rates.tokens?.remaining : undefined
    }
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.reserve(reservationRequest('b', accounts), START_MS)
    expect(left()).toBe(50)
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'tokens', remaining: 50, needed: 100 },
    })
    ledger.settle('a', 30, START_MS)
    ledger.settle('a', 30, START_MS)
    ledger.settle('never seen', 30, START_MS)
    expect(left()).toBe(120)
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS).ok).toBe(true)
  })

  test('reserved for an output are bounded by the context length', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 300 })]
    expect(
      ledger.reserve(reservationRequest('a', accounts, { maxTokens: 9_000, contextLength: 256 }), START_MS)
        .ok,
    ).toBe(true)
    expect(ledger.reserve(reservationRequest('b', accounts, { maxTokens: 9_000 }), START_MS)).toMatchObject({
      ok: false,
      rejection: { needed: 8_192, retryAfterMs: null },
    })
  })

  test('of a client that sets no bound are bounded by the remaining ones, or the request is rejected', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 5_000 })]
    const open = (id: string) =>
      ledger.reserve(reservationRequest(id, accounts, { maxTokens: null }), START_MS)
    expect(open('a')).toMatchObject({ ok: true, maxTokens: DEFAULT_COMPLETION_TOKENS })
    expect(open('b')).toMatchObject({ ok: true, maxTokens: 5_000 - DEFAULT_COMPLETION_TOKENS - 20 })
    expect(open('c')).toMatchObject({ ok: false, rejection: { needed: MIN_COMPLETION_TOKENS + 10 } })
    const unlimited = ledger.reserve(
      reservationRequest('d', [key({ requestsPerMinute: 5 })], { maxTokens: null }),
      START_MS,
    )
    expect(unlimited).toMatchObject({ ok: true, maxTokens: null })
  })

  test.each([
    [1, 9_000],
    [2, 8_192 - DEFAULT_COMPLETION_TOKENS + 2 * DEFAULT_COMPLETION_TOKENS],
  ])(
    'are left for %i choices without a bound also if the prompt is estimated longer than the context, as one in another script',
    (choices, reserved) => {
      const ledger = new Ledger()
      const accounts = [key({ tokensPerMinute: 20_000 })]
      const wanted = { promptTokens: 9_000, maxTokens: null, choices, contextLength: 8_192 }
      expect(ledger.reserve(reservationRequest('a', accounts, wanted), START_MS)).toMatchObject({
        ok: true,
        maxTokens: DEFAULT_COMPLETION_TOKENS,
        rates: { tokens: { remaining: 20_000 - reserved } },
      })
    },
  )

  test('of several choices are reserved also if the prompt is estimated longer than the context', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 20_000 })]
    // If the prompt really has 3,000 tokens, each choice may have 5,000.
    const wanted = { promptTokens: 9_000, maxTokens: 5_000, choices: 16, contextLength: 8_192 }
    expect(ledger.reserve(reservationRequest('a', accounts, wanted), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'tokens', needed: 8_192 - 5_000 + 16 * 5_000 },
    })
  })

  test('of several choices are reserved for each choice, and those of the prompt once', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 300 })]
    expect(ledger.reserve(reservationRequest('a', accounts, { choices: 4 }), START_MS)).toMatchObject({
      ok: false,
      rejection: { needed: 370 },
    })
    expect(ledger.reserve(reservationRequest('b', accounts, { choices: 3 }), START_MS)).toMatchObject({
      ok: true,
      rates: { tokens: { remaining: 20 } },
    })
  })

  test('of several choices without a bound are the remaining ones, divided among them', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 2_000 })]
    expect(
      ledger.reserve(reservationRequest('a', accounts, { maxTokens: null, choices: 4 }), START_MS),
    ).toMatchObject({
      ok: true,
      maxTokens: 497,
      rates: { tokens: { remaining: 2 } },
    })
  })

  test('of several prompts are bounded by the remaining context of each', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 1_000 })]
    const wanted = { promptTokens: 100, prompts: 2, choices: 2, maxTokens: 9_000, contextLength: 256 }
    expect(ledger.reserve(reservationRequest('a', accounts, wanted), START_MS)).toMatchObject({
      ok: true,
      rates: { tokens: { remaining: 1_000 - 2 * 256 } },
    })
  })

  test('beyond the reservation count too, and block the next request', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMonth: 150 })]
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.settle('a', 160, START_MS)
    expect(
      ledger.reserve(reservationRequest('b', accounts, { promptTokens: 0, maxTokens: 1 }), START_MS).ok,
    ).toBe(false)
  })
})

describe('the monthly budget', () => {
  const accounts = [key({ tokensPerMonth: 250 })]

  test('rejects without a retry time when it is spent, and with one when others have reserved it', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.reserve(reservationRequest('b', accounts), START_MS)
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'month', remaining: 50, retryAfterMs: expect.any(Number) as number },
    })
    ledger.settle('a', 100, START_MS)
    ledger.settle('b', 100, START_MS)
    expect(ledger.reserve(reservationRequest('c', accounts), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'month', remaining: 50, retryAfterMs: null },
    })
  })

  describe('at the end of a month', () => {
    const nextMs = Date.UTC(2026, 6, 1)
    const endMs = nextMs - 1_000
    const remaining = (ledger: Ledger, nowMs: number) => {
      const result = ledger.reserve(reservationRequest('too much', accounts, { maxTokens: 1_000 }), nowMs)
      return result.ok ? undefined : result.rejection.remaining
    }
    const restarted = (ledger: Ledger, nowMs: number) => {
      const next = new Ledger()
      next.restore(storeChanges(ledger, nowMs), nowMs)
      return next
    }

    test('what was settled counts no more, and what is still reserved counts in the new month', () => {
      const before = new Ledger()
      for (const id of ['a', 'b']) before.reserve(reservationRequest(id, accounts), endMs)
      before.settle('a', 60, endMs)
      for (const ledger of [restarted(before, nextMs), before]) {
        expect(ledger.reserve(reservationRequest('c', accounts), nextMs).ok).toBe(true)
        expect(ledger.reserve(reservationRequest('d', accounts), nextMs).ok).toBe(false)
        ledger.settle('b', 70, nextMs)
        ledger.settle('c', 100, nextMs)
        expect(remaining(ledger, nextMs)).toBe(250 - 170)
      }
    })

    test('a receipt that corrects an estimate of the month before is charged whole, and that of a month once', () => {
      const ledger = new Ledger()
      for (const id of ['a', 'b']) ledger.reserve(reservationRequest(id, accounts), endMs)
      ledger.expire(['a'], endMs, 30)
      ledger.expire(['b'], nextMs, 30)
      ledger.settle('a', 50, nextMs)
      ledger.settle('b', 50, nextMs)
      expect(remaining(ledger, nextMs)).toBe(250 - 100)
    })

    test('a retry after a receipt of the month before takes nothing from the new month', () => {
      const ledger = new Ledger()
      ledger.reserve(reservationRequest('a', accounts), endMs)
      ledger.settle('a', 90, endMs)
      ledger.reserve(reservationRequest('a', accounts, { leaseId: 'a.2' }), nextMs)
      ledger.settle('a.2', 40, nextMs)
      expect(remaining(ledger, nextMs)).toBe(250 - 40)
    })
  })

  test('counts usage from before the account was seen, once', () => {
    const ledger = new Ledger()
    const [account] = accounts
    if (!account) throw new Error('no account')
    const uncharged = { fromMs: Date.UTC(2026, 5, 1), beforeMs: START_MS, except: ['running'], refunds: 0 }
    expect(ledger.unchargedUsage(account, START_MS, () => ['running'])).toEqual(uncharged)
    ledger.reserve(reservationRequest('a', [key({ requestsPerMinute: 9 })]), START_MS)
    ledger.settle('a', 40, START_MS + 1_000)
    expect(ledger.unchargedUsage(account, START_MS + 2_000, () => ['new'])).toEqual(uncharged)
    expect(ledger.unread(START_MS + 2_000)).toEqual([{ owner: { kind: 'key', name: 'k' }, uncharged }])
    for (let turn = 0; turn < 2; turn += 1) ledger.chargeUsage(account, uncharged, 120, START_MS + 2_000)
    expect(ledger.unchargedUsage(account, START_MS + 2_000)).toBeUndefined()
    expect(ledger.unread(START_MS + 2_000)).toEqual([])
    expect(ledger.reserve(reservationRequest('b', accounts), START_MS + 2_000)).toMatchObject({
      ok: false,
      rejection: { limit: 'month', remaining: 90 },
    })
  })

  test('is not charged receipts that are read after the month, or of a month in which it was seen from the start', () => {
    const ledger = new Ledger()
    const [account] = accounts
    if (!account) throw new Error('no account')
    const unread = ledger.unchargedUsage(account, START_MS)
    if (!unread) throw new Error('nothing is unread')
    const nextMs = Date.UTC(2026, 6, 1)
    ledger.chargeUsage(account, unread, 200, nextMs)
    expect(ledger.unchargedUsage(account, nextMs)).toBeUndefined()
    expect(ledger.reserve(reservationRequest('a', accounts), nextMs).ok).toBe(true)
  })
})

test('concurrent requests are limited until their responses are sent or their receipts arrive', () => {
  const ledger = new Ledger()
  const accounts = [key({ concurrentRequests: 2 })]
  const run = (id: string) => ledger.reserve(reservationRequest(id, accounts), START_MS).ok
  expect([run('a'), run('b'), run('c')]).toEqual([true, true, false])
  ledger.finish('a', false, START_MS)
  ledger.finish('a', false, START_MS)
  expect([run('c'), run('d')]).toEqual([true, false])
  ledger.settle('a', 1, START_MS)
  expect(run('d')).toBe(false)
  ledger.settle('b', 1, START_MS)
  expect(run('d')).toBe(true)
})
