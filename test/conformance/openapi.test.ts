import { beforeAll, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'

const service = inject('service')
type JsonSchema = Parameters<typeof z.fromJSONSchema>[0]
let schemas: Record<string, JsonSchema>

beforeAll(async () => {
  const response = await fetch(`${service.origin}/openapi.json`)
  const document = (await response.json()) as { components: { schemas: typeof schemas } }
  schemas = document.components.schemas
})

const messages = [{ role: 'user', content: 'the cat sat on the mat' }]
const chat = { model: 'tiny', messages, max_tokens: 4 }
const prompt = { model: 'tiny', prompt: 'the cat', max_tokens: 4 }

async function ask(
  path: string,
  body?: object,
  key = service.apiKey,
): Promise<{ status: number; answer: unknown }> {
  const response = await fetch(service.baseUrl + path, {
    method: body ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${key}` },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  return { status: response.status, answer: await response.json() }
}

/** Returns the issues of a response under a schema of the document. */
function faults(name: string, answer: unknown): unknown[] {
  const schema = schemas[name]
  if (!schema) throw new Error(`the document has no '${name}'`)
  return z.fromJSONSchema(schema).safeParse(answer).error?.issues ?? []
}

/** Requests that need the addon, which compiles grammars. */
function structured(): [string, object, string][] {
  if (!service.keepsGrammars) return []
  const schema = { type: 'object', properties: { a: { type: 'boolean' } }, additionalProperties: false }
  const call = { ...chat, max_tokens: 100, tool_choice: 'required' }
  const response = { model: 'tiny', input: 'the cat', max_output_tokens: 100 }
  const format = { type: 'json_schema', name: 'a', schema }
  const tool = { name: 'f', parameters: schema }
  return [
    ['/chat/completions', { ...call, tools: [{ type: 'function', function: tool }] }, 'ChatCompletion'],
    ['/responses', { ...response, text: { format } }, 'Response'],
    [
      '/responses',
      { ...response, tools: [{ type: 'function', ...tool }], tool_choice: 'required' },
      'Response',
    ],
  ]
}

if (!service.keepsGrammars) skipWithoutAddon('structured answers')
test.each<[string, object | undefined, string]>([
  ['/chat/completions', chat, 'ChatCompletion'],
  [
    '/chat/completions',
    { ...chat, n: 2, logprobs: true, top_logprobs: 3, service_tier: 'auto' },
    'ChatCompletion',
  ],
  ['/completions', prompt, 'Completion'],
  ['/completions', { ...prompt, prompt: ['a', 'b'], logprobs: 2 }, 'Completion'],
  ['/responses', { model: 'tiny', input: 'the cat', max_output_tokens: 4 }, 'Response'],
  ['/responses', { model: 'tiny', input: messages, instructions: 'x', metadata: { a: 'b' } }, 'Response'],
  ...structured(),
  ['/embeddings', { model: 'tiny', input: ['a', 'b'] }, 'Embeddings'],
  ['/embeddings', { model: 'tiny', input: 'a', encoding_format: 'base64' }, 'Embeddings'],
  ['/models', undefined, 'ModelList'],
  ['/models/tiny@dense', undefined, 'Model'],
])('the response of %s to %j matches the document', async (path, body, schema) => {
  const { status, answer } = await ask(path, body)
  expect(status).toBe(200)
  expect(faults(schema, answer)).toEqual([])
})

test.each<[string, object | undefined, string, number]>([
  ['/chat/completions', { ...chat, n: 99 }, service.apiKey, 400],
  ['/chat/completions', chat, 'sk-copal-wrong', 401],
  ['/models/gpt-9', undefined, service.apiKey, 404],
  ['/nothing', undefined, service.apiKey, 404],
])('the error of %s %j matches the document', async (path, body, key, expected) => {
  const { status, answer } = await ask(path, body, key)
  expect(status).toBe(expected)
  expect(faults('Error', answer)).toEqual([])
})

test('the schemas of the document reject invalid values', () => {
  expect(faults('Error', { error: { message: 'x' } })).not.toEqual([])
  expect(faults('ChatRequest', { model: 'tiny', messages: [] })).not.toEqual([])
  expect(faults('ChatRequest', { ...chat, temperature: 3 })).not.toEqual([])
})
