import { expect, test } from 'vitest'
import { estimateTokens } from '../../../../gateway/src/inference/validation/estimate-tokens.ts'

test.each([
  ['four ASCII characters count as a token', ['What is resin?'], 4],
  ['other characters count as a token for each byte, so that enough is reserved', ['琥珀'], 6],
  ['a text with both kinds adds them up', ['résumé: 😀'], 2 + 4 + 4],
  ['each text is rounded up by itself', ['a', 'b', ''], 2],
  ['token ids are counted', [[1, 2, 3], 'abcd'], 4],
])('%s', (_, texts, tokens) => {
  expect(estimateTokens(texts)).toBe(tokens)
})
