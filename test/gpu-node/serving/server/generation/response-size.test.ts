import { expect, test, vi } from 'vitest'
import { requireEmbeddingsFit } from '../../../../../gpu-node/src/serving/server/generation/response-size.ts'
import { arithmeticNodes, CHAT } from '../../../../support/doubles/arithmetic-node.ts'
import { call } from '../../../../support/processes/in-process-node.ts'

const nodes = arithmeticNodes({ contextLength: 2_000 })
const errorOf = async (response: Response) => ({
  status: response.status,
  ...((await response.json()) as object),
})

test('log-probabilities too large for one response are rejected before a token is generated, with the number that fits', async () => {
  const { node, backend } = await nodes.start()
  const chat = { ...CHAT, logprobs: true, top_logprobs: 20, n: 16, max_tokens: 1_250 }
  expect(await errorOf(await node.post('/rpc/chat-completions', call(chat)))).toMatchObject({
    status: 400,
    error: {
      code: 'invalid_request',
      param: 'top_logprobs',
      message: expect.stringMatching(/^With 20 alternatives to each of its 20000 tokens.*: 6241 tokens fit/),
    },
  })
  expect(backend.plans).toEqual([])
  // The context bounds the tokens, whatever the request asks for.
  const one = { ...chat, n: 1, max_tokens: 1_000_000 }
  expect((await node.post('/rpc/chat-completions', call(one))).status).toBe(200)
})

test('the same request passes as a stream, with fewer tokens, and without a token limit', async () => {
  const { node } = await nodes.start()
  const chat = { ...CHAT, logprobs: true, top_logprobs: 20, n: 2, max_tokens: 24 }
  const most = { ...chat, n: 4, max_tokens: 1_999 }
  expect((await node.post('/rpc/chat-completions', call(most))).status).toBe(400)
  for (const request of [chat, { ...most, stream: true }, { ...chat, n: 1, max_tokens: undefined }]) {
    const response = await node.post('/rpc/chat-completions', call(request))
    expect(response.status).toBe(200)
    await response.body?.cancel()
  }
})

test('a request whose log-probabilities become too large for one response is ended, so that they do not fill the memory', async () => {
  const { node, backend } = await nodes.start()
  const step = backend.step.bind(backend)
  // As many as a request without a token limit gets of some hundred tokens.
  const top = Array.from({ length: 20_000 }, (_, token) => ({ token, logprob: -1 }))
  vi.spyOn(backend, 'step').mockImplementation(async (plan) => {
    const { outputs } = await step(plan)
    return { outputs: outputs.map((output) => (output.kind === 'token' ? { ...output, top } : output)) }
  })
  const chat = { ...CHAT, logprobs: true, top_logprobs: 20 }
  expect(await errorOf(await node.post('/rpc/chat-completions', call(chat)))).toMatchObject({
    status: 400,
    error: { code: 'invalid_request', message: expect.stringContaining('Stream it') as string },
  })
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'cancelled' }])
  const stream = await node.post('/rpc/chat-completions', call({ ...chat, stream: true }), { directly: true })
  expect(stream.status).toBe(200)
  await stream.body?.cancel()
})

test('embeddings too large for one response are rejected with the number that fits', () => {
  expect(() => requireEmbeddingsFit(256, 2_048, 'float')).not.toThrow()
  expect(() => requireEmbeddingsFit(256, 4_096, 'base64')).not.toThrow()
  expect(() => requireEmbeddingsFit(256, 4_096, 'float')).toThrow(/Ask for at most 128 .*'base64'/)
  expect(() => requireEmbeddingsFit(256, 8_192, 'base64')).toThrow(/Ask for at most 191 in one request\.$/)
})
