import { expect, test } from 'vitest'
import {
  commonTokens,
  comparisonSentence,
} from '../../../../gateway/dashboard/src/pages/playground/comparison.ts'

const tokensOf = (text: string) => Array.from(text, (letter) => ({ text: letter }))
const answerOf = (name: string, text: string, tokensPerSecond: number | null) => ({
  name,
  tokens: tokensOf(text),
  figures: { tokensPerSecond },
})

test('the answers are alike up to the first token that differs', () => {
  expect(commonTokens(tokensOf('abc'), tokensOf('abd'))).toBe(2)
  expect(commonTokens(tokensOf('ab'), tokensOf('abd'))).toBe(2)
  expect(commonTokens([], tokensOf('a'))).toBe(0)
})

test('the sentence tells where answers part and which was faster', () => {
  expect(comparisonSentence(answerOf('mask 14', 'abc', 30), answerOf('the dense weights', 'abd', 20))).toBe(
    'The answers are alike for 2 tokens, then they part. Mask 14 answered 1.5 × as fast.',
  )
  expect(comparisonSentence(answerOf('mask 14', 'ab', 20), answerOf('mask 13', 'ab', 20.5))).toBe(
    'Both answers are the same 2 tokens. They came at the same speed.',
  )
  expect(comparisonSentence(answerOf('mask 14', 'x', null), answerOf('mask 13', 'y', 3))).toBe(
    'The answers differ from the first token on.',
  )
})
