import { expect, test } from 'vitest'
import { EventReader, readStream } from '../../../../gateway/dashboard/src/pages/playground/chat-stream.ts'

const chunk = (choice: object | undefined, rest: object = {}) =>
  `data: ${JSON.stringify({
    id: 'chat-1',
    system_fingerprint: 'copal-smollm-135m-m12',
    choices: choice ? [{ index: 0, delta: {}, logprobs: null, finish_reason: null, ...choice }] : [],
    ...rest,
  })}\n\n`
const scored = (token: string, logprob: number) => ({
  delta: { content: token },
  logprobs: { content: [{ token, logprob, bytes: [], top_logprobs: [] }], refusal: null },
})

test('tokens come with their surprise and the mask that generated them', () => {
  const events = new EventReader().read(chunk(scored(' hello', -0.5)))
  expect(events).toEqual([{ kind: 'tokens', tokens: [{ text: ' hello', surprise: 0.5 }], maskVersion: 12 }])
})

test('an event that is cut anywhere is read when it is whole', () => {
  const text = chunk(scored('a', -1)) + chunk({ finish_reason: 'stop' }) + 'data: [DONE]\n\n'
  const whole = new EventReader().read(text)
  const reader = new EventReader()
  expect(Array.from(text).flatMap((character) => reader.read(character))).toEqual(whole)
  expect(whole.map(({ kind }) => kind)).toEqual(['tokens', 'finish', 'done'])
})

test('text without log-probabilities is shown without surprise, and a role alone is no token', () => {
  const reader = new EventReader()
  expect(reader.read(chunk({ delta: { role: 'assistant', content: '' } }))).toEqual([])
  expect(reader.read(chunk({ delta: { content: 'x' } }))).toMatchObject([
    { tokens: [{ text: 'x', surprise: undefined }] },
  ])
})

test('an error event is an error with its message, and usage is read from the last chunk', () => {
  const reader = new EventReader()
  expect(
    reader.read('event: error\ndata: {"error":{"message":"The node failed.","code":"node_failed"}}\n\n'),
  ).toEqual([{ kind: 'error', message: 'The node failed.' }])
  const usage = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 }
  expect(reader.read(chunk(undefined, { usage }))).toEqual([{ kind: 'usage', usage }])
})

test('a character that two tokens share belongs to the second one', () => {
  const part = (token: string, bytes: number[]) =>
    chunk({
      delta: { content: '' },
      logprobs: { content: [{ token, logprob: -1, bytes, top_logprobs: [] }], refusal: null },
    })
  const events = new EventReader().read(part('bytes:\\xc3', [0xc3]) + part('bytes:\\xa9', [0xa9]))
  expect(events).toMatchObject([{ tokens: [{ text: '' }] }, { tokens: [{ text: 'é' }] }])
})

test('a stream that ends without its last event broke off; one whose error is told has ended', async () => {
  const read = async (text: string) => {
    const kinds: string[] = []
    await readStream(new Response(text), ({ kind }) => kinds.push(kind))
    return kinds
  }
  const answer = chunk(scored('a', -1))
  expect(await read(`${answer}data: [DONE]\n\n`)).toEqual(['tokens', 'done'])
  expect(await read(`${answer}data: {"error":{"message":"The node failed."}}\n\n`)).toEqual([
    'tokens',
    'error',
  ])
  await expect(read(answer)).rejects.toThrow('broke off')
})
