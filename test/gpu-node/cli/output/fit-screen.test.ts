import { expect, test } from 'vitest'
import { fitScreen } from '../../../../gpu-node/cli/output/fit-screen.ts'

const TEXT = 'one two three\nfour\nfive'

test.each([
  ['of unknown size', {}, TEXT],
  ['that was given no size', { columns: 0, rows: 0 }, TEXT],
  ['as narrow as a character', { columns: 1 }, 'onetwothreefourfive'.split('').join('\n')],
  ['narrower than a line', { columns: 8 }, 'one two\nthree\nfour\nfive'],
  ['lower than the text', { columns: 80, rows: 3 }, 'one two three\n… 2 more lines: enlarge the window'],
])('a text fits a terminal %s', (_, size, shown) => {
  expect(fitScreen(TEXT, size)).toBe(shown)
})

test.each([
  ['that are two columns wide', '法律文書の分類', 6, ['法律文', '書の分', '類']],
  ['of a blank and wide words', 'ab 法律 文書', 7, ['ab 法律', '文書']],
  ['wider than the whole line', '法律', 1, ['法', '律']],
  ['that are made of several code points', '👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧', 4, ['👩‍👩‍👧👩‍👩‍👧', '👩‍👩‍👧']],
  ['with combining marks', 'e\u0301e\u0301e\u0301e\u0301', 4, ['e\u0301e\u0301e\u0301e\u0301']],
])('a line of characters %s is broken where it fills the window', (_, line, columns, shown) => {
  expect(fitScreen(line, { columns }).split('\n')).toEqual(shown)
})
