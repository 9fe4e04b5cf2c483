import { expect, test } from 'vitest'
import { estimateTokens } from '../../../../gateway/src/inference/validation/estimate-tokens.ts'

test.each([
  ['four characters of ASCII are a token', ['What is resin?'], 4],
  ['others may be a token a byte, so that they are not reserved for too little', ['琥珀'], 6],
  ['a text may have both', ['résumé: 😀'], 2 + 4 + 4],
  ['each text is rounded up', ['a', 'b', ''], 2],
  ['tokens are counted', [[1, 2, 3], 'abcd'], 4],
])('%s', (_, texts, tokens) => {
  expect(estimateTokens(texts)).toBe(tokens)
})
