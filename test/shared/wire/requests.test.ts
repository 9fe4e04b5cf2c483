import { describe, expect, test } from 'vitest'
import type { z } from 'zod'
import { chatRequest, contentText } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { embeddingsRequest, inputsOf } from '@copal/shared/wire/embeddings.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { toChatRequest, responsesRequest } from '@copal/shared/wire/responses.ts'
import { requestError } from '../../support/harness/request-error.ts'

const chat = (fields: object) => () =>
  validate(chatRequest, { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], ...fields })
const completion = (fields: object) => () =>
  validate(completionRequest, { model: 'tiny', prompt: 'hi', ...fields })

/** Every accepted parameter of OpenAI's chat completions, with a valid value. */
const ACCEPTED_BY_CHAT: Record<string, unknown> = {
  frequency_penalty: 0.5,
  logit_bias: { '5': -100, '1734': 100 },
  logprobs: true,
  max_completion_tokens: 5,
  max_tokens: 5,
  metadata: { team: 'x' },
  modalities: ['text'],
  n: 32,
  prediction: { type: 'content', content: 'x' },
  presence_penalty: -2,
  prompt_cache_key: 'x',
  prompt_cache_retention: 'in_memory',
  reasoning_effort: 'none',
  safety_identifier: 'x',
  seed: -5,
  service_tier: 'default',
  stop: Array.from({ length: 16 }, (_, at) => `stop ${at}`),
  store: true,
  stream: true,
  temperature: 2,
  tools: [],
  tool_choice: 'auto',
  top_k: -1,
  top_logprobs: 0,
  top_p: 0.1,
  user: 'someone',
  verbosity: 'medium',
}

const REJECTED_BY_CHAT: [field: string, value: unknown, param: string, message: RegExp][] = [
  ['audio', { voice: 'alloy', format: 'wav' }, 'audio', /text only/],
  ['function_call', 'auto', 'function_call', /'tool_choice'/],
  ['functions', [], 'functions', /'tools'/],
  ['logit_bias', { hello: 1 }, 'logit_bias.hello', /token ids/],
  ['logit_bias', { '5': 101 }, 'logit_bias.5', /-100 to 100/],
  [
    'logit_bias',
    Object.fromEntries(Array.from({ length: 301 }, (_, id) => [id, 1])),
    'logit_bias',
    /at most 300/,
  ],
  ['metadata', { a: 1 }, 'metadata.a', /string/],
  [
    'metadata',
    Object.fromEntries(Array.from({ length: 17 }, (_, at) => [at, 'x'])),
    'metadata',
    /at most 16/,
  ],
  ['modalities', ['text', 'audio'], 'modalities[1]', /'text' only/],
  ['moderation', {}, 'moderation', /not supported/],
  ['n', 0, 'n', /at least 1\b/],
  ['n', 33, 'n', /at most 32\./],
  ['prediction', { type: 'text', content: 'x' }, 'prediction.type', /expected/],
  ['prediction', { type: 'content' }, 'prediction.content', /./],
  ['prompt_cache_options', {}, 'prompt_cache_options', /leave it out/],
  ['prompt_cache_retention', '24h', 'prompt_cache_retention', /in memory only/],
  ['reasoning_effort', 'high', 'reasoning_effort', /does not reason/],
  ['service_tier', 'flex', 'service_tier', /one service tier/],
  ['repetition_penalty', 1e-92, 'repetition_penalty', /at least 0\.01/],
  ['response_format', { type: 'xml' }, 'response_format.type', /'text', 'json_object' or 'json_schema'/],
  ['stop', Array.from({ length: 17 }, () => 'a'), 'stop', /at most 16/],
  ['stream_options', { include_usage: true }, 'stream_options', /'stream': true/],
  ['tool_choice', 'required', 'tool_choice', /requires 'tools'/],
  ['top_k', -2, 'top_k', /at least -1\./],
  ['top_logprobs', 3, 'top_logprobs', /'logprobs': true/],
  ['verbosity', 'low', 'verbosity', /'medium'/],
  ['web_search_options', {}, 'web_search_options', /web search/],
]

describe('chat completions', () => {
  test.each(Object.entries(ACCEPTED_BY_CHAT))('accept %s', (field, value) => {
    expect(chat({ [field]: value })()).toHaveProperty(field, value)
  })

  test.each(REJECTED_BY_CHAT)('reject %s %j and name it', (field, value, param, message) => {
    const error = requestError(chat({ [field]: value }))
    expect(error.param).toBe(param)
    expect(error.message).toMatch(message)
    expect(error.message.startsWith(`Invalid '${param}': `)).toBe(true)
  })

  test('accept messages as clients send them back, though they are empty', () => {
    const messages = [
      { role: 'user', content: 'hi', name: null },
      { role: 'assistant', content: [] },
      { role: 'assistant', content: null, tool_calls: [] },
      { role: 'user', content: [{ type: 'text', text: 'go on' }] },
      { role: 'assistant', content: [{ type: 'refusal', refusal: 'I would rather not.' }] },
      { role: 'user', content: '' },
    ]
    const texts = chat({ messages })().messages.map(({ content }) => contentText(content))
    expect(texts).toEqual(['hi', '', '', 'go on', 'I would rather not.', ''])
  })

  test.each(['user', 'assistant'])('reject an image in a message of the %s and name its part', (role) => {
    const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } }
    const error = requestError(chat({ messages: [{ role, content: [{ type: 'text', text: 'a' }, image] }] }))
    expect(error.param).toBe('messages[0].content[1].type')
    expect(error.message).toMatch(/only text parts are supported, because this model reads text only/)
  })

  test('accept null for every field as if it were left out', () => {
    const fields = [...Object.keys(ACCEPTED_BY_CHAT), ...REJECTED_BY_CHAT.map(([field]) => field)]
    expect(chat(Object.fromEntries(fields.map((field) => [field, null])))).not.toThrow()
  })

  test('accept stream options with a stream, but no obfuscation', () => {
    const options = (fields: object) => chat({ stream: true, stream_options: fields })
    expect(options({ include_usage: true, include_obfuscation: false })).not.toThrow()
    expect(requestError(options({ include_obfuscation: true })).param).toBe(
      'stream_options.include_obfuscation',
    )
  })
})

describe('completions', () => {
  test.each<[field: string, value: unknown, param: string, message: RegExp]>([
    ['max_tokens', 0, 'max_tokens', /at least 1; 0 needs 'echo': true/],
    ['suffix', 'end', 'suffix', /suffix/],
    ['best_of', 3, 'best_of', /value of 'n', 1/],
    ['logprobs', 6, 'logprobs', /at most 5\./],
    ['prompt', [], 'prompt', /a text, a list of token ids/],
    ['prompt', ['a', ''], 'prompt[1]', /at least 1\b/],
    ['prompt', [[1], [2, -1], 'a'], 'prompt[1][1]', /at least 0\./],
    ['prompt', ['a', [1]], 'prompt', /a text, a list of token ids/],
    ['prompt', Array.from({ length: 33 }, () => 'a'), 'prompt', /at most 32/],
    ['stream_options', {}, 'stream_options', /'stream': true/],
  ])('reject %s %j and name it', (field, value, param, message) => {
    const error = requestError(completion({ [field]: value }))
    expect(error.param).toBe(param)
    expect(error.message).toMatch(message)
  })

  test('several choices of a prompt that is only repeated are rejected, because they would be equal', () => {
    for (const fields of [{ logprobs: 1 }, { max_tokens: 0 }]) {
      const { param, message } = requestError(completion({ echo: true, n: 2, ...fields }))
      expect(param).toBe('n')
      expect(message).toMatch(/every choice would repeat the same/)
    }
    expect(completion({ echo: true, n: 2 })).not.toThrow()
    expect(completion({ echo: true, max_tokens: 0, logprobs: 5 })).not.toThrow()
  })

  test.each([['text'], [['one', 'two']], [[1, 2]], [[[1, 2], [3]]]])('accept the prompt %j', (prompt) => {
    expect(completion({ prompt })).not.toThrow()
  })

  test('accept as many choices over all prompts as one request may have', () => {
    expect(completion({ prompt: ['a', 'b'], n: 16, best_of: 16 })).not.toThrow()
    const error = requestError(completion({ prompt: ['a', 'b'], n: 17 }))
    expect(error).toMatchObject({ param: 'n', message: expect.stringContaining('would have 34') as string })
  })
})

describe('responses', () => {
  const responses = (fields: object) => () =>
    validate(responsesRequest, { model: 'tiny', input: 'hi', ...fields })
  const user = (content: unknown) => [{ role: 'user', content }]
  const f = { type: 'function', name: 'f' }

  test.each<[field: string, value: unknown, param: string, message: RegExp]>([
    ['background', true, 'background', /not stored/],
    ['conversation', 'conv_1', 'conversation', /not stored/],
    ['include', ['message.output_text.logprobs'], 'include[0]', /other parts do not exist/],
    ['input', '', 'input', /at least 1\b/],
    ['input', [...user('a'), { type: 'item_reference', id: 'x' }], 'input[1].type', /nothing is stored/],
    ['input', user([{ type: 'input_image', image_url: 'x' }]), 'input[0].content[0].type', /text parts/],
    ['input', [{ type: 'function_call_output', output: 'x' }], 'input[0].call_id', /is missing/],
    [
      'input',
      [{ type: 'function_call_output', call_id: 'c', output: 'x' }],
      'input[0].call_id',
      /expected the function call of this output before it/,
    ],
    [
      'input',
      [...user('a'), { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' }, ...user('b')],
      'input[1].call_id',
      /no tool output found for function call c\./,
    ],
    [
      'input',
      [{ type: 'function_call', call_id: 'c', name: 'a b', arguments: '{}' }],
      'input[0].name',
      /letters/,
    ],
    ['previous_response_id', 'resp_1', 'previous_response_id', /not stored/],
    ['prompt', { id: 'p' }, 'prompt', /not stored/],
    ['reasoning', { effort: 'high' }, 'reasoning.effort', /does not reason/],
    ['stream_options', { include_obfuscation: true }, 'stream_options.include_obfuscation', /send false/],
    ['text', { format: { type: 'xml' } }, 'text.format.type', /'json_schema'/],
    ['text', { format: { type: 'json_schema', name: 'a' } }, 'text.format.schema', /JSON schema/],
    [
      'text',
      { format: { type: 'json_schema', name: 'a', schema: { items: { not: { const: 1 } } } } },
      'text.format.schema',
      /'not' at #\/items/,
    ],
    ['tool_choice', 'required', 'tool_choice', /requires 'tools'/],
    ['tool_choice', { type: 'function', name: 'f' }, 'tool_choice.name', /no tool is named 'f'/],
    ['tool_choice', { type: 'web_search' }, 'tool_choice.type', /only 'function'/],
    ['tool_choice', 'any', 'tool_choice', /'required'/],
    ['tools', [{ type: 'web_search' }], 'tools[0].type', /only 'function'/],
    ['tools', [f, { ...f, async: true }], 'tools[1].async', /send false/],
    ['tools', [f, f], 'tools[1].name', /another tool is already named 'f'/],
    [
      'tools',
      [{ ...f, parameters: { uniqueItems: true }, strict: true }],
      'tools[0].parameters',
      /'uniqueItems' at #/,
    ],
    ['top_logprobs', 2, 'top_logprobs', /chat\/completions/],
    ['truncation', 'auto', 'truncation', /'disabled'/],
  ])('reject %s %j and name it', (field, value, param, message) => {
    const error = requestError(responses({ [field]: value }))
    expect(error.param).toBe(param)
    expect(error.message).toMatch(message)
  })

  test('accept a stateless request with every default written out', () => {
    const defaults = {
      background: false,
      include: ['reasoning.encrypted_content'],
      metadata: { a: 'b' },
      parallel_tool_calls: true,
      previous_response_id: null,
      reasoning: { effort: null },
      service_tier: 'auto',
      store: true,
      text: { format: { type: 'text' }, verbosity: 'medium' },
      tool_choice: 'auto',
      tools: [],
      top_logprobs: 0,
      truncation: 'disabled',
    }
    expect(responses(defaults)).not.toThrow()
  })

  test('convert to a conversation that begins with the instructions', () => {
    const input = [
      ...user([
        { type: 'input_text', text: 'a' },
        { type: 'input_text', text: 'b' },
      ]),
      ...user('c'),
    ]
    expect(toChatRequest(responses({ input, instructions: 'i' })()).messages).toEqual([
      { role: 'system', content: 'i' },
      { role: 'user', content: 'ab' },
      { role: 'user', content: 'c' },
    ])
  })

  test('convert to a chat with tools and a format', () => {
    const call = {
      type: 'function_call',
      call_id: 'c1',
      name: 'f',
      arguments: '{}',
      id: 'fc_1',
      status: 'completed',
    }
    const input = [
      ...user('a'),
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'so', annotations: [] }] },
      call,
      { ...call, call_id: 'c2' },
      { type: 'function_call_output', call_id: 'c2', output: [{ type: 'input_text', text: 'two' }] },
      { type: 'function_call_output', call_id: 'c1', output: 'one' },
      { ...call, call_id: 'c3' },
      { type: 'function_call_output', call_id: 'c3', output: '' },
    ]
    const schema = { type: 'object' }
    const asChat = toChatRequest(
      responses({
        input,
        tools: [{ ...f, description: 'does', parameters: schema, strict: true }],
        tool_choice: { type: 'function', name: 'f' },
        parallel_tool_calls: false,
        text: { format: { type: 'json_schema', name: 'n', schema } },
      })(),
    )
    const called = (id: string) => ({ id, type: 'function', function: { name: 'f', arguments: '{}' } })
    expect(asChat.messages).toEqual([
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'so', tool_calls: [called('c1'), called('c2')] },
      { role: 'tool', content: 'two', tool_call_id: 'c2' },
      { role: 'tool', content: 'one', tool_call_id: 'c1' },
      { role: 'assistant', content: null, tool_calls: [called('c3')] },
      { role: 'tool', content: '', tool_call_id: 'c3' },
    ])
    expect(asChat).toMatchObject({
      tools: [
        { type: 'function', function: { name: 'f', description: 'does', parameters: schema, strict: true } },
      ],
      tool_choice: { type: 'function', function: { name: 'f' } },
      parallel_tool_calls: false,
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema } },
    })
    // The node parses the chat that the gateway accepted.
    expect(() => validate(chatRequest, { model: 'tiny', ...asChat })).not.toThrow()
  })
})

describe('embeddings', () => {
  const embeddings = (fields: object) => () => validate(embeddingsRequest, { model: 'tiny', ...fields })

  test.each([
    ['one text', ['one text']],
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    [[1, 2], [[1, 2]]],
    [
      [[1, 2], [3]],
      [[1, 2], [3]],
    ],
  ])('accept %j', (input, inputs) => {
    expect(inputsOf(embeddings({ input })())).toEqual(inputs)
  })

  test.each<[field: string, value: unknown, param: string, message: RegExp]>([
    ['dimensions', 64, 'dimensions', /always has the size of/],
    ['encoding_format', 'int8', 'encoding_format', /'base64'/],
    ['input', [], 'input', /none of them empty/],
    ['input', Array.from({ length: 2049 }, () => 'a'), 'input', /at most 2048/],
    ['input', undefined, 'input', /a text, a list of token ids/],
  ])('reject %s %j and name it', (field, value, param, message) => {
    const error = requestError(embeddings({ input: 'x', [field]: value }))
    expect(error.param).toBe(param)
    expect(error.message).toMatch(message)
  })
})

/** A schema nested as deep as fits into a body of 1 MiB. */
const abyss: unknown = JSON.parse('{"a":'.repeat(150_000) + '1' + '}'.repeat(150_000))
const schemaFormat = { type: 'json_schema', name: 'f', schema: abyss }

test.each<[param: string, schema: typeof chatRequest | typeof responsesRequest, fields: object]>([
  [
    'tools[0].function.parameters',
    chatRequest,
    { tools: [{ type: 'function', function: { name: 'f', parameters: abyss } }] },
  ],
  [
    'response_format.json_schema.schema',
    chatRequest,
    { response_format: { ...schemaFormat, json_schema: schemaFormat } },
  ],
  ['tools[0].parameters', responsesRequest, { tools: [{ type: 'function', name: 'f', parameters: abyss }] }],
  ['text.format.schema', responsesRequest, { text: { format: schemaFormat } }],
])('reject %s that is too deep to be written as JSON', (param, schema, fields) => {
  const text = schema === chatRequest ? { messages: [{ role: 'user', content: 'hi' }] } : { input: 'hi' }
  const error = requestError(() => validate(schema as z.ZodType, { model: 'tiny', ...text, ...fields }))
  expect(error).toMatchObject({
    param,
    message: expect.stringContaining('nested more than 64 levels deep') as string,
  })
})
