import { describe, expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { responsesRequest } from '@copal/shared/wire/responses.ts'
import {
  responseKey,
  isRepeatable,
  requestKey,
  type KeyedRequest,
} from '../../../../gateway/src/inference/cache/cache-key.ts'

const REQUEST = { model: 'tiny', temperature: 0, messages: [{ role: 'user', content: 'x' }] }
const chat = (fields: object = {}): KeyedRequest => ({
  tenant: 'ours',
  path: '/rpc/chat-completions',
  model: 'tiny',
  request: chatRequest.parse({ ...REQUEST, ...fields }),
})
const cacheKey = async (request: KeyedRequest, version: number) =>
  responseKey(await requestKey(request), version)
const keyOf = (fields: object, version = 3) => cacheKey(chat(fields), version)

describe('the cache key', () => {
  test('differs between tenants, paths, models and masks', async () => {
    const keys = await Promise.all([
      cacheKey(chat(), 3),
      cacheKey(chat(), 4),
      cacheKey({ ...chat(), tenant: 'theirs' }, 3),
      cacheKey({ ...chat(), path: '/rpc/completions' }, 3),
      cacheKey({ ...chat(), model: 'other' }, 3),
    ])
    expect(new Set(keys).size).toBe(keys.length)
  })

  test('differs for every field that may change the response', async () => {
    const schema = (properties: object) => ({
      type: 'json_schema',
      json_schema: { name: 'x', schema: { type: 'object', properties } },
    })
    const changes: object[] = [
      {},
      { messages: [{ role: 'user', content: 'y' }] },
      { messages: [{ role: 'system', content: 'x' }] },
      { messages: [{ role: 'user', content: 'x', name: 'me' }] },
      { temperature: 0.5 },
      { seed: 1 },
      { seed: 2 },
      { top_p: 0.5 },
      { top_k: 5 },
      { min_p: 0.1 },
      { presence_penalty: 1 },
      { frequency_penalty: 1 },
      { repetition_penalty: 1.1 },
      { logit_bias: { 5: 1 } },
      { stop: 'a' },
      { stop: ['a', 'b'] },
      { max_tokens: 5 },
      { max_completion_tokens: 6 },
      { n: 2 },
      { logprobs: true },
      { logprobs: true, top_logprobs: 2 },
      { service_tier: 'default' },
      { stream: true },
      { stream: true, stream_options: { include_usage: true } },
      { tools: [{ type: 'function', function: { name: 'f' } }] },
      { tools: [{ type: 'function', function: { name: 'f' } }], tool_choice: 'required' },
      { response_format: { type: 'json_object' } },
      // The model writes properties in the order of the schema, so that order matters.
      { response_format: schema({ a: { type: 'null' }, b: {} }) },
      { response_format: schema({ b: {}, a: { type: 'null' } }) },
      { response_format: schema({ b: {}, a: { const: null } }) },
    ]
    const keys = await Promise.all(changes.map((fields) => keyOf(fields)))
    expect(new Set(keys).size).toBe(changes.length)
  })

  test('does not depend on the order of fields, on null fields or on fields that do not affect the response', async () => {
    const same = await keyOf({})
    for (const fields of [
      { stop: null, seed: null },
      { prediction: { type: 'content', content: 'y' } },
      { user: 'jane', metadata: { a: 'b' }, prompt_cache_key: 'p', safety_identifier: 's', store: false },
      { stream: null, unknown: 1 },
    ])
      expect(await keyOf(fields)).toBe(same)
    const turned = chatRequest.parse(Object.fromEntries(Object.entries(REQUEST).toReversed()))
    expect(await cacheKey({ ...chat(), request: turned }, 3)).toBe(same)
  })

  test('depends on the fields that a response of the Responses API repeats', async () => {
    const keyFor = (fields: object) =>
      cacheKey(
        {
          ...chat(),
          path: '/rpc/responses',
          request: responsesRequest.parse({ model: 'tiny', input: 'x', ...fields }),
        },
        3,
      )
    const keys = await Promise.all([{}, { user: 'jane' }, { metadata: { a: 'b' } }].map(keyFor))
    expect(new Set(keys).size).toBe(3)
  })
})

test('only a request that always gives the same response is cached', () => {
  const repeatable = (fields: object) => isRepeatable(chat(fields))
  expect(repeatable({ temperature: 0 })).toBe(true)
  expect(repeatable({ temperature: 0.7, seed: 0 })).toBe(true)
  // The default is 1.
  expect(repeatable({ temperature: null })).toBe(false)
  expect(repeatable({ temperature: 0.7 })).toBe(false)
  expect(repeatable({ temperature: 0, stream: true })).toBe(true)
  expect(isRepeatable({ path: '/rpc/embeddings', request: { model: 'tiny' } })).toBe(true)
})
