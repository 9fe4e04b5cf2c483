import { expect, inject, test } from 'vitest'
import type { ErrorBody } from '@copal/shared/errors.ts'

const { origin, apiKey } = inject('service')
const hello = { model: 'tiny', messages: [{ role: 'user', content: 'Say hello.' }], max_tokens: 4 }
const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'

test.each<[string, string, unknown, Record<string, string>, number, string, string | null]>([
  ['malformed JSON', CHAT, '{"model":', {}, 400, 'invalid_request', null],
  ['a wrong type', CHAT, { ...hello, temperature: 'hot' }, {}, 400, 'invalid_request', 'temperature'],
  ['an unknown model', CHAT, { ...hello, model: 'gpt-9' }, {}, 404, 'model_not_found', 'model'],
  ['no messages', CHAT, { ...hello, messages: [] }, {}, 400, 'invalid_request', 'messages'],
  [
    'a prompt longer than the context',
    COMPLETIONS,
    { model: 'tiny', prompt: 'word '.repeat(20_000) },
    {},
    400,
    'context_length_exceeded',
    null,
  ],
  [
    'a body of 10 MB',
    COMPLETIONS,
    { model: 'tiny', prompt: 'a'.repeat(10_000_000) },
    {},
    413,
    'body_too_large',
    null,
  ],
  ['an invalid key', CHAT, hello, { authorization: 'Bearer sk-copal-wrong' }, 401, 'invalid_api_key', null],
  [
    'a bad domain',
    CHAT,
    hello,
    { 'x-copal-domain': 'Läw & order' },
    400,
    'invalid_request',
    'x-copal-domain',
  ],
  ['an unknown path', '/v1/nothing', {}, {}, 404, 'not_found', null],
])('%s gets an error in the OpenAI shape', async (_name, path, body, headers, status, code, param) => {
  const response = await fetch(origin + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const { error } = (await response.json()) as ErrorBody
  expect({ status: response.status, code: error.code, param: error.param }).toMatchObject({
    status,
    code,
    ...(param === null ? {} : { param }),
  })
  expect(error.message.length).toBeGreaterThan(10)
})
