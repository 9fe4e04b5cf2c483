import { expect, test, vi } from 'vitest'
import { createGeneratedText } from '../../../../gpu-node/src/serving/engine/generated-text.ts'
import type { TextCodec } from '../../../../gpu-node/src/model/tokenizer/text-codec.ts'

test('alternatives of a token are stored as ids, and their bytes are looked up only when they are sent', () => {
  const tokenBytes = vi.fn<TextCodec['tokenBytes']>((id) => Uint8Array.of(97 + id))
  const answer = createGeneratedText({
    codec: { tokenBytes, isSpecial: () => false },
    endTokens: new Set(),
    stops: [],
    maxNewTokens: 10,
    logprobs: true,
  })
  const top = Array.from({ length: 20 }, (_, token) => ({ token, logprob: -token }))
  const { text, tokens } = answer.take({ token: 2, logprob: -2, top })
  expect(text).toBe('c')
  expect(tokens).toMatchObject([{ token: 2, logprob: -2, top }])
  expect(tokenBytes.mock.calls).toEqual([[2]])
})
