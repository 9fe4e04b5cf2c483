import { describe, expect, test } from 'vitest'
import { isNearDuplicate, sketchOf } from '../../../../gateway/src/adaptation/sampling/near-duplicate.ts'
import { createRandom } from '../../../support/harness/random.ts'

const WORDS =
  'the of and to in that was his he it with is for as had you not be her on at by which have or from'.split(
    ' ',
  )
function sentence(random: () => number, words: number): string {
  return Array.from({ length: words }, () => {
    const common = WORDS[Math.floor(random() * WORDS.length)] ?? ''
    return random() < 0.5 ? common : Math.floor(random() * 36 ** 4).toString(36)
  }).join(' ')
}
function areAlike(one: string, other: string): boolean {
  const [a, b] = [sketchOf(one), sketchOf(other)]
  return a !== undefined && b !== undefined && isNearDuplicate(a, b)
}

describe('texts of 60 to 700 words', () => {
  const random = createRandom(5)
  const texts = Array.from({ length: 200 }, () => sentence(random, 60 + Math.floor(random() * 640)))

  test('are recognized with other upper case, white space, a changed word or a new end', () => {
    for (const text of texts) {
      expect(areAlike(text, text.toUpperCase().replaceAll(' ', '\n'))).toBe(true)
      expect(areAlike(text, text.replace(/ \w+ /u, ' changed '))).toBe(true)
      expect(areAlike(text, `${text} ${sentence(random, 3)}`)).toBe(true)
    }
  })

  test('are told apart from all others, and from texts that share half of their words with them', () => {
    for (const [index, text] of texts.entries()) {
      const other = texts[(index + 1) % texts.length] ?? ''
      expect(areAlike(text, other)).toBe(false)
      const half = text.split(' ').slice(0, text.split(' ').length / 2)
      expect(areAlike(text, `${half.join(' ')} ${sentence(random, half.length)}`)).toBe(false)
    }
  })
})

test('short texts have no sketch, because a word is too large a part of them', () => {
  expect(sketchOf('Translate to French: good morning')).toBeUndefined()
})

test('repetitions of one phrase are alike, however long', () => {
  expect(areAlike('buy this now '.repeat(40), 'buy this now '.repeat(90))).toBe(true)
})
