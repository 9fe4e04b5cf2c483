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
