/** The changelog stays a page that somebody reads before an upgrade. */
import { expect, test } from 'vitest'
import { readText } from './markdown.ts'

const MAX_WORDS = 2_500
const MAX_WORDS_OF_ENTRY = 60

const page = readText('CHANGELOG.md')

test(`the changelog has at most ${MAX_WORDS} words, and each entry at most ${MAX_WORDS_OF_ENTRY}`, () => {
  const entries = page.split(/\n(?=- |\| |\n)/).filter((block) => /^(?:- |\| )/.test(block))
  expect(entries.length).toBeGreaterThan(50)
  expect(entries.filter((entry) => wordsOf(entry) > MAX_WORDS_OF_ENTRY)).toEqual([])
  expect(wordsOf(page)).toBeLessThanOrEqual(MAX_WORDS)
})

test('what to do is listed by date, newest first', () => {
  const dates = [...page.matchAll(/^#### (.+)$/gm)].map(([, date = '']) => date)
  expect(dates.length).toBeGreaterThan(0)
  for (const date of dates) expect(date).toMatch(/^\d{4}-\d\d-\d\d$/)
  expect(dates).toEqual(dates.toSorted().toReversed())
})

function wordsOf(text: string): number {
  return text.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length
}
