import { describe, expect, test } from 'vitest'
import {
  hasReturned,
  isOver,
  MAX_HOLD_MS,
  type ServedNow,
} from '../../../../../gateway/src/adaptation/drift/alerts/alert-ends.ts'
import { driftAlert } from '../../../../../gateway/src/adaptation/drift/alerts/drift-alert.ts'

const RAISED = Date.UTC(2026, 10, 28)
const finding = { model: 'm', domain: 'legal', before: 3, after: 3.4, detector: 'adwin' } as const
const input = driftAlert({ ...finding, signal: 'dense', maskVersion: 0 }, RAISED)
const gap = driftAlert({ ...finding, signal: 'gap', maskVersion: 2, before: 0.3, after: 0.5 }, RAISED)
const NOW: ServedNow = {
  isServed: () => true,
  lastLearntMs: () => undefined,
  lastReadMs: () => RAISED + 60_000,
  nowMs: RAISED + 60_000,
}

describe('a drift alert', () => {
  test('ends where the signal has come back by more than half of the change, and holds before', () => {
    expect([3.3, 3.21, 3.19, 3].map((recent) => hasReturned(input, recent))).toEqual([
      false,
      false,
      true,
      true,
    ])
    expect([0.45, 0.39, 0.1].map((recent) => hasReturned(gap, recent))).toEqual([false, true, true])
  })

  test('of the traffic does not end where it changes as much the other way', () => {
    expect(hasReturned(input, 2.5)).toBe(false)
  })

  test('of a gap ends with its mask', () => {
    expect(isOver(gap, NOW)).toBe(false)
    expect(isOver(gap, { ...NOW, isServed: (_, version) => version !== 2 })).toBe(true)
  })

  test('of the traffic ends when an update has learnt it, or after a week', () => {
    expect(isOver(input, NOW)).toBe(false)
    expect(isOver(input, { ...NOW, lastLearntMs: () => RAISED - 1 })).toBe(false)
    expect(isOver(input, { ...NOW, lastLearntMs: () => RAISED + 1 })).toBe(true)
    const later = RAISED + MAX_HOLD_MS + 1
    expect(isOver(input, { ...NOW, nowMs: later, lastReadMs: () => later })).toBe(true)
    expect(isOver(gap, { ...NOW, nowMs: later, lastReadMs: () => later })).toBe(false)
  })

  test('ends when nothing was scored for a week', () => {
    expect(isOver(gap, { ...NOW, nowMs: RAISED + MAX_HOLD_MS + 120_000 })).toBe(true)
  })
})
