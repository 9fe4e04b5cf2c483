import { expect, test } from 'vitest'
import { visibleText } from '../../shared/src/visible-text.ts'

const shown = (text: string, lines = false) => visibleText(text, '?', { lines })

test.each([
  ['a right-to-left override', 'a\u202eb'],
  ['an isolate', 'a\u2067b'],
  ['a direction mark', 'a\u200fb'],
  ['an Arabic letter mark', 'a\u061cb'],
  ['a zero-width space', 'a\u200bb'],
  ['a byte-order mark', 'a\ufeffb'],
  ['a soft hyphen', 'a\u00adb'],
  ['a tag character', 'a\u{e0041}b'],
  ['a Hangul filler', 'a\u3164b'],
  ['a line separator', 'a\u2028b'],
  ['an escape', 'a\x1bb'],
  ['a C1 control', 'a\x9bb'],
])('%s is replaced', (_, text) => {
  expect(shown(text)).toBe('a?b')
  expect(shown(text, true)).toBe('a?b')
})

test.each(['می‌خواهم', '👩‍👩‍👧', '❤\ufe0f', '葛\u{e0100}', 'שלום', 'cafe\u0301', 'a b'])(
  '%j stays as it is',
  (text) => expect(shown(text)).toBe(text),
)

test('line feeds and tabs stay in text of several lines alone', () => {
  expect(shown('a\n\tb\r', true)).toBe('a\n\tb?')
  expect(shown('a\n\tb')).toBe('a??b')
})
