import { expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { samplingOf } from '../../../../../gpu-node/src/serving/server/generation/sampling-options.ts'

test.each([
  [undefined, 0],
  [-1, 0],
  [0, 0],
  [40, 40],
])('top_k %j, as vLLM has it, keeps %i tokens, where 0 is all', (topK, expected) => {
  const request = validate(chatRequest, {
    model: 'm',
    messages: [{ role: 'user', content: 'hi' }],
    top_k: topK,
  })
  expect(samplingOf(request, -1).sampling.topK).toBe(expected)
})
