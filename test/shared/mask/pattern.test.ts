import { expect, test } from 'vitest'
import { keptCounts, parsePattern } from '@copal/shared/mask/pattern.ts'

test('ratios and n:m are read', () => {
  expect(parsePattern('0.5')).toEqual({ kind: 'ratio', ratio: 0.5 })
  expect(parsePattern('0.6625')).toEqual({ kind: 'ratio', ratio: 0.6625 })
  expect(parsePattern('2:4')).toEqual({ kind: 'n:m', keep: 2, group: 4 })
  expect(parsePattern('12:16')).toEqual({ kind: 'n:m', keep: 12, group: 16 })
})

test.each([
  '',
  '1',
  '1.0',
  '.5',
  '0.',
  '0.12345',
  '-0.5',
  '50%',
  '4:4',
  '5:4',
  '0:4',
  '2:',
  ':4',
  '02:4',
  '2:4:8',
  ' 0.5',
])("'%s' is refused with what was expected", (text) => {
  expect(() => parsePattern(text)).toThrow("expected a ratio of pruned weights like '0.5'")
})

test('a ratio prunes the floor of its product, of each row or of the matrix', () => {
  expect(keptCounts(parsePattern('0.5'), 'row', 3, 7)).toEqual({ groups: 3, size: 7, kept: 4 })
  expect(keptCounts(parsePattern('0.5'), 'matrix', 3, 7)).toEqual({ groups: 1, size: 21, kept: 11 })
  expect(keptCounts(parsePattern('0.0'), 'row', 3, 7)).toEqual({ groups: 3, size: 7, kept: 7 })
})

test('n:m keeps n of every m columns whatever the scope', () => {
  expect(keptCounts(parsePattern('2:4'), 'matrix', 3, 8)).toEqual({ groups: 6, size: 4, kept: 2 })
})
