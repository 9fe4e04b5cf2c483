import { expect, test } from 'vitest'
import { listNames, phrasesText } from '../../../gateway/dashboard/src/format/phrases.ts'

test('names are joined, and many are counted', () => {
  expect(
    [[], ['a'], ['a', 'b'], ['a', 'b', 'c'], ['a', 'b', 'c', 'd']].map((names) => listNames(names, 3)),
  ).toEqual(['', 'a', 'a and b', 'a, b and c', 'a, b and 2 others'])
})

test('a sentence of parts reads as text', () => {
  const text = phrasesText(
    [
      { harm: 'One fails.' },
      ' ',
      { to: '/masks/3', text: 'Mask 3' },
      ' costs ',
      { nats: 0.1 },
      ' since ',
      { at: 1_000 },
    ],
    31_000,
  )
  expect(text.replaceAll('\u202F', ' ')).toBe('One fails. Mask 3 costs +10.5 % since 30 s ago')
})
