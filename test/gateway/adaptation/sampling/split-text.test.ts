import { expect, test } from 'vitest'
import { beginningOf, splitText } from '../../../../gateway/src/adaptation/sampling/split-text.ts'

test('a text is split after paragraphs, lines, sentences or words, and no word is lost', () => {
  const paragraph = 'One sentence of words. Another one follows it here.'
  const text = Array.from({ length: 40 }, () => paragraph).join('\n\n')
  const pieces = splitText(text, 200)
  expect(pieces.every((piece) => piece.length <= 200 && piece.length > 0)).toBe(true)
  expect(pieces.every((piece) => piece.endsWith('here.'))).toBe(true)
  expect(pieces.join(' ').split(/\s+/)).toEqual(text.split(/\s+/))
  expect(splitText('a b '.repeat(100), 50).join(' ').split(/\s+/)).toHaveLength(200)
})

test('a short text stays whole, white space gives no piece, and no character is split', () => {
  expect(splitText('short', 200)).toEqual(['short'])
  expect(splitText(' \n ', 200)).toEqual([])
  const pieces = splitText('🙂'.repeat(100), 51)
  expect(pieces.every((piece) => piece.isWellFormed())).toBe(true)
  expect(pieces.join('')).toBe('🙂'.repeat(100))
})

test('the beginning of a text ends after a word, and without words before a whole character', () => {
  expect(beginningOf('one two three', 100)).toBe('one two three')
  expect(beginningOf('one two three', 9)).toBe('one two')
  expect(beginningOf('one two three', 7)).toBe('one two')
  expect(beginningOf('one two\n three', 9)).toBe('one two')
  expect(beginningOf('🙂'.repeat(10), 11)).toBe('🙂🙂')
  expect(beginningOf('漢字かな'.repeat(10), 20)).toBe('漢字かな漢字')
  expect(beginningOf(`a ${'b'.repeat(200)}`, 150)).toBe(`a ${'b'.repeat(148)}`)
})
