import { describe, expect, test } from 'vitest'
import {
  formatAge,
  formatBytes,
  formatDuration,
  formatMask,
  formatPercent,
  formatPerplexity,
} from '../../../gpu-node/src/platform/quantities.ts'

describe('quantities for people', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [92_149_000, '92 MB'],
    [999_499_999, '999 MB'],
    [999_600_000, '1.0 GB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

  test.each([
    [0, '0 s'],
    [59_400, '59 s'],
    [60_000, '1 min'],
    [200_000, '3 min 20 s'],
    [7_500_000, '2 h 5 min'],
    [4 * 86_400_000, '4 d'],
  ])('%d ms are %s', (ms, text) => expect(formatDuration(ms)).toBe(text))

  test('ages are coarse, and null is never', () => {
    const now = Date.parse('2026-01-02T00:00:00Z')
    expect(formatAge(null, now)).toBe('never')
    expect(formatAge('2026-01-01T23:59:59.500Z', now)).toBe('now')
    expect(formatAge('2026-01-01T23:57:10Z', now)).toBe('2 min ago')
    expect(formatAge('2025-12-31T12:00:00Z', now)).toBe('36 h ago')
  })

  test('perplexities keep four figures', () => {
    expect([4.5312, 21.034, 988.91, 1234.5, 1.2e7].map(formatPerplexity)).toEqual([
      '4.531',
      '21.03',
      '988.9',
      '1235',
      '1.20e+7',
    ])
  })

  test('masks and fractions', () => {
    expect([formatMask(0), formatMask(3), formatPercent(0.4999)]).toEqual(['dense', 'm3', '50.0 %'])
  })
})
