import { expect, test } from 'vitest'
import {
  domainHistories,
  type PastUpdate,
} from '../../../../gateway/src/adaptation/triggers/domain-history.ts'

const NOW = Date.UTC(2026, 10, 25, 12)
const MINUTE = 60_000

const failed = (atMs: number, state: PastUpdate['state'] = 'failed'): PastUpdate => ({
  id: 'upd_1',
  domains: ['legal'],
  state,
  trigger: 'volume',
  createdAt: atMs - 10 * MINUTE,
  finishedAt: atMs,
})

test('failed updates make their domains wait twice as long each time, at most a week', () => {
  const wait = (count: number, cooldown = 60) => {
    const updates = Array.from({ length: count }, (_, index) => failed(NOW - index * MINUTE))
    return ((domainHistories(updates, cooldown).get('legal')?.retryAtMs ?? 0) - NOW) / MINUTE
  }
  expect([1, 2, 3, 4].map((count) => wait(count))).toEqual([60, 120, 240, 480])
  expect(wait(20)).toBe(7 * 24 * 60)
  // A short cool-down does not repeat what just failed.
  expect([1, 2].map((count) => wait(count, 1))).toEqual([15, 30])
})

test('failed updates are counted since the last mask that went live; those that were rolled back or cancelled count', () => {
  const updates = [
    failed(NOW - 3 * MINUTE, 'cancelled'),
    failed(NOW - 4 * MINUTE, 'rolled_back'),
    failed(NOW - 5 * MINUTE, 'promoted'),
    failed(NOW - 6 * MINUTE),
  ]
  expect(domainHistories(updates, 60).get('legal')).toMatchObject({
    failures: 2,
    retryAtMs: NOW - 3 * MINUTE + 120 * MINUTE,
  })
})
