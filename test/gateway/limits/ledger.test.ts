import { describe, expect, test } from 'vitest'
import {
  DEFAULT_COMPLETION_TOKENS,
  HOLD_MS,
  LEAST_COMPLETION_TOKENS,
  Ledger,
} from '../../../gateway/src/limits/ledger.ts'
import type { LimitedAccount, Limits } from '../../../gateway/src/limits/limits.ts'
import type { AccountRecord, Hold, Wanted } from '../../../gateway/src/limits/reservation.ts'

const START_MS = Date.UTC(2026, 5, 15, 12)
const MINUTE_MS = 60_000

const key = (limits: Limits): LimitedAccount => ({ kind: 'key', name: 'k', limits })
const tenant = (limits: Limits): LimitedAccount => ({ kind: 'tenant', name: 't', limits })
const ask = (requestId: string, accounts: LimitedAccount[], changes: Partial<Wanted> = {}): Wanted => ({
  requestId,
  leaseId: requestId,
  accounts,
  promptTokens: 10,
  maxTokens: 90,
  contextLength: 8192,
  ...changes,
})
/** Everything that a ledger stores, applied to a store. */
function save(
  ledger: Ledger,
  nowMs: number,
  into = { accounts: new Map<string, AccountRecord>(), holds: new Map<string, Hold>() },
) {
  const { accounts, holds } = ledger.takeChanges(nowMs)
  const apply = <T>(changes: Map<string, T | undefined>, kept: Map<string, T>) => {
    for (const [id, value] of changes) {
      if (value === undefined) kept.delete(id)
      else kept.set(id, structuredClone(value))
    }
  }
  apply(accounts, into.accounts)
  apply(holds, into.holds)
  return into
}

describe('requests a minute', () => {
  test('are let in up to the limit and refused beyond it, with the time until one more fits', () => {
    const ledger = new Ledger()
    const accounts = [key({ requestsPerMinute: 2 })]
    expect(ledger.reserve(ask('a', accounts), START_MS)).toMatchObject({
      ok: true,
      rates: { requests: { limit: 2, remaining: 1 } },
    })
    ledger.reserve(ask('b', accounts), START_MS + 20_000)
    const refused = ledger.reserve(ask('c', accounts), START_MS + 30_000)
    expect(refused).toMatchObject({
      ok: false,
      refusal: { kind: 'key', limit: 'requests', most: 2, remaining: 0, retryAfterMs: 31_000 },
    })
    expect(ledger.reserve(ask('c', accounts), START_MS + 60_999).ok).toBe(false)
    expect(ledger.reserve(ask('c', accounts), START_MS + 61_000).ok).toBe(true)
    expect(ledger.reserve(ask('d', accounts), START_MS + 61_000).ok).toBe(false)
  })

  test('that are refused consume nothing, of any account', () => {
    const ledger = new Ledger()
    const accounts = [key({ requestsPerMinute: 5, tokensPerMonth: 1_000 }), tenant({ requestsPerMinute: 1 })]
    ledger.reserve(ask('a', accounts), START_MS)
    for (let index = 0; index < 20; index += 1) {
      const refused = ledger.reserve(ask(`b${index}`, accounts), START_MS)
      expect(refused).toMatchObject({ ok: false, refusal: { kind: 'tenant' } })
    }
    const alone = [key({ requestsPerMinute: 5, tokensPerMonth: 1_000 })]
    expect(ledger.reserve(ask('c', alone), START_MS)).toMatchObject({
      ok: true,
      rates: { requests: { remaining: 3 } },
    })
  })
})

describe('tokens', () => {
  test('are reserved before and settled after, once', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 250 })]
    const left = () => {
      const probe = ledger.reserve(ask('probe', accounts, { maxTokens: 0, promptTokens: 0 }), START_MS)
      ledger.cancel('probe', START_MS)
      return probe.ok ? probe.rates.tokens?.remaining : undefined
    }
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.reserve(ask('b', accounts), START_MS)
    expect(left()).toBe(50)
    expect(ledger.reserve(ask('c', accounts), START_MS)).toMatchObject({
      ok: false,
      refusal: { limit: 'tokens', remaining: 50, wanted: 100 },
    })
    ledger.settle('a', 30, START_MS)
    ledger.settle('a', 30, START_MS)
    ledger.settle('never seen', 30, START_MS)
    expect(left()).toBe(120)
    expect(ledger.reserve(ask('c', accounts), START_MS).ok).toBe(true)
  })

  test('that an answer may use are bounded by the context', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 300 })]
    expect(ledger.reserve(ask('a', accounts, { maxTokens: 9_000, contextLength: 256 }), START_MS).ok).toBe(
      true,
    )
    expect(ledger.reserve(ask('b', accounts, { maxTokens: 9_000 }), START_MS)).toMatchObject({
      ok: false,
      refusal: { wanted: 8_192, retryAfterMs: null },
    })
  })

  test('of a client that names no bound are bounded by what is left, or it waits', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 5_000 })]
    const open = (id: string) => ledger.reserve(ask(id, accounts, { maxTokens: null }), START_MS)
    expect(open('a')).toMatchObject({ ok: true, maxTokens: DEFAULT_COMPLETION_TOKENS })
    expect(open('b')).toMatchObject({ ok: true, maxTokens: 5_000 - DEFAULT_COMPLETION_TOKENS - 20 })
    expect(open('c')).toMatchObject({ ok: false, refusal: { wanted: LEAST_COMPLETION_TOKENS + 10 } })
    const unlimited = ledger.reserve(ask('d', [key({ requestsPerMinute: 5 })], { maxTokens: null }), START_MS)
    expect(unlimited).toMatchObject({ ok: true, maxTokens: null })
  })

  test('of several choices are reserved for each, of their prompt once', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 300 })]
    expect(ledger.reserve(ask('a', accounts, { choices: 4 }), START_MS)).toMatchObject({
      ok: false,
      refusal: { wanted: 370 },
    })
    expect(ledger.reserve(ask('b', accounts, { choices: 3 }), START_MS)).toMatchObject({
      ok: true,
      rates: { tokens: { remaining: 20 } },
    })
  })

  test('of several choices without a bound are what is left, shared among them', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 2_000 })]
    expect(ledger.reserve(ask('a', accounts, { maxTokens: null, choices: 4 }), START_MS)).toMatchObject({
      ok: true,
      maxTokens: 497,
      rates: { tokens: { remaining: 2 } },
    })
  })

  test('of several prompts are bounded by the context that each has left', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMinute: 1_000 })]
    const wanted = { promptTokens: 100, prompts: 2, choices: 2, maxTokens: 9_000, contextLength: 256 }
    expect(ledger.reserve(ask('a', accounts, wanted), START_MS)).toMatchObject({
      ok: true,
      rates: { tokens: { remaining: 1_000 - 2 * 256 } },
    })
  })

  test('beyond what was reserved count too, and keep the next out', () => {
    const ledger = new Ledger()
    const accounts = [key({ tokensPerMonth: 150 })]
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.settle('a', 160, START_MS)
    expect(ledger.reserve(ask('b', accounts, { promptTokens: 0, maxTokens: 1 }), START_MS).ok).toBe(false)
  })
})

describe('the budget of a month', () => {
  const accounts = [key({ tokensPerMonth: 250 })]

  test('is refused for good when it is spent, and for a moment when others hold it', () => {
    const ledger = new Ledger()
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.reserve(ask('b', accounts), START_MS)
    expect(ledger.reserve(ask('c', accounts), START_MS)).toMatchObject({
      ok: false,
      refusal: { limit: 'month', remaining: 50, retryAfterMs: expect.any(Number) as number },
    })
    ledger.settle('a', 100, START_MS)
    ledger.settle('b', 100, START_MS)
    expect(ledger.reserve(ask('c', accounts), START_MS)).toMatchObject({
      ok: false,
      refusal: { limit: 'month', remaining: 50, retryAfterMs: null },
    })
  })

  test('begins anew with the month; what is settled late belongs to the month that it was reserved in', () => {
    const ledger = new Ledger()
    const endMs = Date.UTC(2026, 6, 1) - 1_000
    ledger.reserve(ask('a', accounts), endMs)
    ledger.reserve(ask('b', accounts), endMs)
    expect(ledger.reserve(ask('c', accounts), endMs + 1_000).ok).toBe(true)
    ledger.settle('a', 100, endMs + 2_000)
    ledger.settle('b', 100, endMs + 2_000)
    expect(ledger.reserve(ask('d', accounts), endMs + 2_000).ok).toBe(true)
    expect(ledger.reserve(ask('e', accounts), endMs + 2_000).ok).toBe(false)
  })

  test('counts what was used before it was seen', () => {
    const ledger = new Ledger()
    const [account] = accounts
    if (!account) throw new Error('no account')
    expect(ledger.knows(account)).toBe(false)
    ledger.open(account, 200, START_MS)
    ledger.open(account, 0, START_MS)
    expect(ledger.reserve(ask('a', accounts), START_MS).ok).toBe(false)
  })
})

test('as many requests run at a time as may, until their answer is out or their receipt is there', () => {
  const ledger = new Ledger()
  const accounts = [key({ concurrentRequests: 2 })]
  const run = (id: string) => ledger.reserve(ask(id, accounts), START_MS).ok
  expect([run('a'), run('b'), run('c')]).toEqual([true, true, false])
  ledger.finish('a', false, START_MS)
  ledger.finish('a', false, START_MS)
  expect([run('c'), run('d')]).toEqual([true, false])
  ledger.settle('a', 1, START_MS)
  expect(run('d')).toBe(false)
  ledger.settle('b', 1, START_MS)
  expect(run('d')).toBe(true)
})

describe('another attempt', () => {
  const accounts = [key({ requestsPerMinute: 1, tokensPerMonth: 100 })]
  const attempt = (leaseId: string) => ask('r', accounts, { leaseId })
  const spentAfter = (ledger: Ledger) => save(ledger, START_MS).accounts.get('key:k')?.spent

  test('takes over the reservation, and its receipt alone settles', () => {
    const ledger = new Ledger()
    expect(ledger.reserve(attempt('r'), START_MS).ok).toBe(true)
    expect(ledger.reserve(attempt('r.2'), START_MS).ok).toBe(true)
    ledger.settle('r', 77, START_MS)
    ledger.settle('r.2', 33, START_MS)
    expect(spentAfter(ledger)).toBe(33)
  })

  test('takes it over also when the receipt of the failed one came first', () => {
    const ledger = new Ledger()
    ledger.reserve(attempt('r'), START_MS)
    ledger.settle('r', 0, START_MS)
    expect(ledger.reserve(attempt('r.2'), START_MS).ok).toBe(true)
    ledger.settle('r.2', 33, START_MS)
    expect(spentAfter(ledger)).toBe(33)
    expect(ledger.reserve(ask('other', accounts, { maxTokens: 1 }), START_MS).ok).toBe(false)
  })
})

describe('a reservation without a receipt', () => {
  const accounts = [key({ tokensPerMonth: 1_000, concurrentRequests: 1 })]
  const spentAfter = (ledger: Ledger) => save(ledger, START_MS).accounts.get('key:k')?.spent

  test('expires, is settled with all of itself, and gives way once to a receipt that comes late', () => {
    const ledger = new Ledger()
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.sweep(START_MS + HOLD_MS - 1, () => false)
    expect(spentAfter(ledger)).toBe(0)
    ledger.sweep(START_MS + HOLD_MS, () => false)
    expect(spentAfter(ledger)).toBe(100)
    expect(ledger.reserve(ask('b', accounts), START_MS + HOLD_MS).ok).toBe(true)
    ledger.settle('a', 40, START_MS + HOLD_MS)
    ledger.settle('a', 20, START_MS + HOLD_MS)
    expect(spentAfter(ledger)).toBe(40)
  })

  test('gives way to its receipt for ten minutes, while what a receipt settled is forgotten within one', () => {
    const ledger = new Ledger()
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.sweep(START_MS + HOLD_MS, () => false)
    const settledMs = START_MS + HOLD_MS
    ledger.reserve(ask('b', accounts, { leaseId: 'b' }), settledMs)
    ledger.settle('b', 10, settledMs)
    ledger.sweep(settledMs + 60_000, () => false)
    // Else another attempt would take over what the first had, and 10 tokens would be taken back.
    ledger.reserve(ask('b', accounts, { leaseId: 'b.2' }), settledMs + 60_000)
    ledger.settle('b.2', 10, settledMs + 60_000)
    expect(spentAfter(ledger)).toBe(120)
    ledger.sweep(settledMs + 599_999, () => false)
    ledger.settle('a', 40, settledMs + 599_999)
    expect(spentAfter(ledger)).toBe(60)
  })

  test('lives while its node tells of it, or it is leased', () => {
    const ledger = new Ledger()
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.renew(['a', 'never seen'], START_MS + HOLD_MS - 1)
    ledger.sweep(START_MS + HOLD_MS, () => false)
    ledger.sweep(START_MS + 10 * HOLD_MS, (leaseId) => leaseId === 'a')
    expect(spentAfter(ledger)).toBe(0)
  })

  test('that gave its client nothing costs nothing, whatever comes later', () => {
    const ledger = new Ledger()
    ledger.reserve(ask('a', accounts), START_MS)
    ledger.finish('a', true, START_MS)
    ledger.settle('a', 50, START_MS)
    expect(spentAfter(ledger)).toBe(0)
  })

  test('that is cancelled leaves no trace', () => {
    const ledger = new Ledger()
    const one = [key({ requestsPerMinute: 1, tokensPerMonth: 100 })]
    for (let index = 0; index < 5; index += 1) {
      expect(ledger.reserve(ask(`r${index}`, one), START_MS).ok).toBe(true)
      ledger.cancel(`r${index}`, START_MS)
    }
  })
})

test('what is stored restores accounts and reservations, and is deleted when it is of no more use', () => {
  const ledger = new Ledger()
  const accounts = [key({ requestsPerMinute: 2, tokensPerMonth: 250, concurrentRequests: 2 })]
  ledger.reserve(ask('a', accounts), START_MS)
  ledger.reserve(ask('b', accounts), START_MS)
  ledger.settle('a', 40, START_MS)
  const stored = save(ledger, START_MS)
  expect([...stored.holds.keys()]).toEqual(['b'])
  const restored = new Ledger()
  restored.restore(stored.accounts, stored.holds, START_MS)
  for (const each of [ledger, restored]) {
    expect(each.reserve(ask('c', accounts), START_MS)).toMatchObject({
      ok: false,
      refusal: { limit: 'requests' },
    })
    const later = [key({ tokensPerMonth: 250 })]
    expect(each.reserve(ask('d', later, { maxTokens: 101 }), START_MS)).toMatchObject({
      ok: false,
      refusal: { limit: 'month', remaining: 110 },
    })
    each.settle('b', 30, START_MS)
  }
  save(restored, START_MS, stored)
  expect(stored.accounts.get('key:k')).toMatchObject({ spent: 70 })
  const nextMonthMs = Date.UTC(2026, 6, 2)
  restored.sweep(nextMonthMs, () => false)
  save(restored, nextMonthMs, stored)
  expect([stored.accounts.size, stored.holds.size, restored.empty]).toEqual([0, 0, true])
})

test('random use never gets past any limit, in any minute, over restarts and whatever ends the requests', () => {
  for (let seed = 1; seed <= 15; seed += 1) {
    const { violations, admitted, refused } = playRandomly(seed)
    expect(violations).toEqual([])
    expect(admitted).toBeGreaterThan(10)
    expect(refused).toBeGreaterThan(10)
  }
})

/** Four hundred random events; the limits are checked after each against a plain list of all that was let in. */
function playRandomly(seed: number): { violations: string[]; admitted: number; refused: number } {
  const random = generator(seed)
  const pick = (most: number) => Math.floor(random() * most)
  const ofKey = { requestsPerMinute: 5 + pick(20), tokensPerMinute: 500 + pick(2_000), tokensPerMonth: 9_000 }
  const ofTenant = {
    requestsPerMinute: 10 + pick(20),
    tokensPerMonth: 8_000,
    concurrentRequests: 1 + pick(6),
  }
  const accounts = [key(ofKey), tenant(ofTenant)]
  let ledger = new Ledger()
  const stored = save(ledger, START_MS)
  const spent = () => JSON.stringify([...stored.accounts].map(([id, record]) => [id, record.spent]))
  const admitted: { id: string; atMs: number; reserved: number; used: number | undefined }[] = []
  const violations: string[] = []
  let refused = 0
  let nowMs = START_MS
  for (let step = 0; step < 400; step += 1) {
    nowMs += pick(2_500)
    const running = admitted.filter(({ used }) => used === undefined)
    const chosen = running[pick(running.length)]
    const action = pick(10)
    if (action < 6 || !chosen) {
      const maxTokens = pick(4) === 0 ? null : pick(300)
      const wanted = ask(`r${step}`, accounts, { promptTokens: pick(100), maxTokens })
      const before = spent()
      const result = ledger.reserve(wanted, nowMs)
      save(ledger, nowMs, stored)
      if (result.ok) {
        const reserved = wanted.promptTokens + (maxTokens ?? result.maxTokens ?? 0)
        admitted.push({ id: wanted.requestId, atMs: nowMs, reserved, used: undefined })
      } else {
        refused += 1
        const held = stored.holds.has(wanted.requestId)
        if (held || (before !== '[]' && spent() !== before)) violations.push(`${step}: a refusal consumed`)
      }
    } else if (action < 8) {
      chosen.used = pick(chosen.reserved + 1)
      ledger.settle(chosen.id, chosen.used, nowMs)
    } else if (action === 8) {
      chosen.used = 0
      ledger.finish(chosen.id, true, nowMs)
    } else {
      ledger = new Ledger()
      ledger.restore(stored.accounts, stored.holds, nowMs)
    }
    save(ledger, nowMs, stored)
    const inLastMinute = admitted.filter(({ atMs }) => atMs > nowMs - MINUTE_MS)
    const cost = (list: typeof admitted) =>
      list.reduce((sum, { used, reserved }) => sum + (used ?? reserved), 0)
    const open = admitted.filter(({ used }) => used === undefined).length
    const check = (what: string, used: number, most: number) => {
      if (used > most) violations.push(`seed ${seed}, step ${step}: ${used} ${what}, ${most} are allowed`)
    }
    check('requests', inLastMinute.length, Math.min(ofKey.requestsPerMinute, ofTenant.requestsPerMinute))
    check('tokens in a minute', cost(inLastMinute), ofKey.tokensPerMinute)
    check('tokens in a month', cost(admitted), Math.min(ofKey.tokensPerMonth, ofTenant.tokensPerMonth))
    check('requests at a time', open, ofTenant.concurrentRequests)
  }
  return { violations, admitted: admitted.length, refused }
}

/** Mulberry32. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
