import { expect, test } from 'vitest'
import { phrasesText } from '../../../gateway/dashboard/src/format/phrases.ts'

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
