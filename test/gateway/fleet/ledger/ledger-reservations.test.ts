import { describe, expect, test } from 'vitest'
import { RESERVATION_MS, Ledger } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import { reservationRequest, key, storeChanges, START_MS } from '../../support/state/ledger.ts'

describe('another attempt', () => {
  const accounts = [key({ requestsPerMinute: 1, tokensPerMonth: 100 })]
  const attempt = (leaseId: string) => reservationRequest('r', accounts, { leaseId })
  const spentAfter = (ledger: Ledger) => storeChanges(ledger, START_MS).accounts.get('key:k')?.spent

  test('takes over the reservation, and only its receipt settles it', () => {
    const ledger = new Ledger()
    expect(ledger.reserve(attempt('r'), START_MS).ok).toBe(true)
    expect(ledger.reserve(attempt('r.2'), START_MS).ok).toBe(true)
    ledger.settle('r', 77, START_MS)
    ledger.settle('r.2', 33, START_MS)
    expect(spentAfter(ledger)).toBe(33)
  })

  test('takes it over also if the receipt of the failed attempt arrived first', () => {
    const ledger = new Ledger()
    ledger.reserve(attempt('r'), START_MS)
    ledger.settle('r', 0, START_MS)
    expect(ledger.reserve(attempt('r.2'), START_MS).ok).toBe(true)
    ledger.settle('r.2', 33, START_MS)
    expect(spentAfter(ledger)).toBe(33)
    expect(ledger.reserve(reservationRequest('other', accounts, { maxTokens: 1 }), START_MS).ok).toBe(false)
  })
})

describe('a reservation without a receipt', () => {
  const accounts = [key({ tokensPerMonth: 1_000, concurrentRequests: 1 })]
  const spentAfter = (ledger: Ledger) => storeChanges(ledger, START_MS).accounts.get('key:k')?.spent

  test('expires, is settled with all its tokens, and is corrected once by a late receipt', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.sweep(START_MS + RESERVATION_MS - 1, () => false)
    expect(spentAfter(ledger)).toBe(0)
    ledger.sweep(START_MS + RESERVATION_MS, () => false)
    expect(spentAfter(ledger)).toBe(100)
    expect(ledger.reserve(reservationRequest('b', accounts), START_MS + RESERVATION_MS).ok).toBe(true)
    ledger.settle('a', 40, START_MS + RESERVATION_MS)
    ledger.settle('a', 20, START_MS + RESERVATION_MS)
    expect(spentAfter(ledger)).toBe(40)
  })

  test.each([
    ['is corrected once', 599_999, 40],
    ['is forgotten', 600_000, 100],
  ])('%s by its receipt after a restart, and %i ms', (_, afterMs, spent) => {
    const before = new Ledger()
    before.reserve(reservationRequest('a', accounts), START_MS)
    const stored = storeChanges(before, START_MS)
    const settledMs = START_MS + RESERVATION_MS
    before.sweep(settledMs, () => false)
    storeChanges(before, settledMs, stored)
    const ledger = new Ledger()
    ledger.restore(stored, settledMs)
    expect(ledger.reserve(reservationRequest('b', accounts), settledMs).ok).toBe(true)
    ledger.cancel('b', settledMs)
    ledger.sweep(settledMs + afterMs, () => false)
    for (const tokens of [40, 20]) ledger.settle('a', tokens, settledMs + afterMs)
    storeChanges(ledger, settledMs + afterMs, stored)
    expect([stored.accounts.get('key:k')?.spent, stored.estimates.size]).toEqual([spent, 0])
  })

  test('is corrected by its receipt within ten minutes, while one settled by a receipt is forgotten within one minute', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.sweep(START_MS + RESERVATION_MS, () => false)
    const settledMs = START_MS + RESERVATION_MS
    ledger.reserve(reservationRequest('b', accounts, { leaseId: 'b' }), settledMs)
    ledger.settle('b', 10, settledMs)
    ledger.sweep(settledMs + 60_000, () => false)
    // Otherwise another attempt would take over the first reservation, and 10 tokens would be returned.
    ledger.reserve(reservationRequest('b', accounts, { leaseId: 'b.2' }), settledMs + 60_000)
    ledger.settle('b.2', 10, settledMs + 60_000)
    expect(spentAfter(ledger)).toBe(120)
    ledger.sweep(settledMs + 599_999, () => false)
    ledger.settle('a', 40, settledMs + 599_999)
    expect(spentAfter(ledger)).toBe(60)
  })

  test('lives while its node reports it or it is leased', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.renew(['a', 'never seen'], START_MS + RESERVATION_MS - 1)
    ledger.sweep(START_MS + RESERVATION_MS, () => false)
    ledger.sweep(START_MS + 10 * RESERVATION_MS, (leaseId) => leaseId === 'a')
    expect(spentAfter(ledger)).toBe(0)
  })

  test('whose client got no output is charged nothing, even if a receipt follows', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.finish('a', true, START_MS)
    ledger.settle('a', 50, START_MS)
    expect(spentAfter(ledger)).toBe(0)
  })

  test('whose client got no output is charged nothing, even if its receipt came before that was known', () => {
    const ledger = new Ledger()
    ledger.reserve(reservationRequest('a', accounts), START_MS)
    ledger.settle('a', 50, START_MS)
    expect(spentAfter(ledger)).toBe(50)
    ledger.finish('a', true, START_MS)
    ledger.finish('a', true, START_MS)
    expect(spentAfter(ledger)).toBe(0)
  })

  test('that is cancelled leaves no trace', () => {
    const ledger = new Ledger()
    const one = [key({ requestsPerMinute: 1, tokensPerMonth: 100 })]
    for (let index = 0; index < 5; index += 1) {
      expect(ledger.reserve(reservationRequest(`r${index}`, one), START_MS).ok).toBe(true)
      ledger.cancel(`r${index}`, START_MS)
    }
  })
})

test('stored records restore accounts and reservations, and are deleted when they are no longer needed', () => {
  const ledger = new Ledger()
  const accounts = [key({ requestsPerMinute: 2, tokensPerMonth: 250, concurrentRequests: 2 })]
  ledger.reserve(reservationRequest('a', accounts), START_MS)
  ledger.reserve(reservationRequest('b', accounts), START_MS)
  ledger.settle('a', 40, START_MS)
  const stored = storeChanges(ledger, START_MS)
  expect([...stored.reservations.keys()]).toEqual(['b'])
  const restored = new Ledger()
  restored.restore(stored, START_MS)
  for (const each of [ledger, restored]) {
    expect(each.reserve(reservationRequest('c', accounts), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'requests' },
    })
    const later = [key({ tokensPerMonth: 250 })]
    expect(each.reserve(reservationRequest('d', later, { maxTokens: 101 }), START_MS)).toMatchObject({
      ok: false,
      rejection: { limit: 'month', remaining: 110 },
    })
    each.settle('b', 30, START_MS)
  }
  storeChanges(restored, START_MS, stored)
  expect(stored.accounts.get('key:k')).toMatchObject({ spent: 70 })
  const nextMonthMs = Date.UTC(2026, 6, 2)
  restored.sweep(nextMonthMs, () => false)
  storeChanges(restored, nextMonthMs, stored)
  expect([stored.accounts.size, stored.reservations.size, restored.empty]).toEqual([0, 0, true])
})
