import { expect, test } from 'vitest'
import { keptCounts, parsePattern, patternError } from '@copal/shared/mask/sparsity-pattern.ts'

test('ratios and n:m are parsed', () => {
  expect(parsePattern('0.5')).toEqual({ kind: 'ratio', ratio: 0.5 })
  expect(parsePattern('0.6625')).toEqual({ kind: 'ratio', ratio: 0.6625 })
  expect(parsePattern('2:4')).toEqual({ kind: 'n:m', keep: 2, group: 4 })
  expect(parsePattern('12:16')).toEqual({ kind: 'n:m', keep: 12, group: 16 })
})

test.each(['', '.5', '0.', '0.12345', '50%', '0:4', '2:', ':4', '02:4', '2:4:8', ' 0.5'])(
  "'%s' is rejected, and the message says what was expected",
  (text) => {
    expect(() => parsePattern(text)).toThrow(
      'expected the fraction of pruned weights with at most four decimals',
    )
    expect(patternError(text)).toContain(`'${text}' is not a sparsity pattern: expected the fraction`)
  },
)

test.each([
  ['0', 'above 0 and below 1'],
  ['0.0', 'above 0 and below 1'],
  ['1', 'above 0 and below 1'],
  ['1.0', 'above 0 and below 1'],
  ['-0.5', 'above 0 and below 1'],
  ['50', 'above 0 and below 1'],
  ['4:4', 'n must be less than m'],
  ['5:4', 'n must be less than m'],
  ['2:65', 'at most 64'],
])('%s is rejected: %s', (text, reason) => {
  expect(() => parsePattern(text)).toThrow(reason)
})

test('a valid pattern has no error', () => {
  for (const text of ['0.5', '0.0001', '0.9999', '1:2', '63:64']) expect(patternError(text)).toBeUndefined()
})

test('a ratio prunes the floor of its product, of each row or of the matrix', () => {
  expect(keptCounts(parsePattern('0.5'), 'row', 3, 7)).toEqual({ groups: 3, size: 7, kept: 4 })
  expect(keptCounts(parsePattern('0.5'), 'matrix', 3, 7)).toEqual({ groups: 1, size: 21, kept: 11 })
  expect(keptCounts(parsePattern('0.1'), 'row', 3, 7)).toEqual({ groups: 3, size: 7, kept: 7 })
})

test('n:m keeps n of every m columns whatever the scope', () => {
  expect(keptCounts(parsePattern('2:4'), 'matrix', 3, 8)).toEqual({ groups: 6, size: 4, kept: 2 })
})
