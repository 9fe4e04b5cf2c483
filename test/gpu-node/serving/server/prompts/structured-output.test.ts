/** Tests `response_format` and `tools` over HTTP, on the tiny model and both backends. */
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI, { BadRequestError } from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { errorBody, toAppError, type ErrorBody } from '@copal/shared/errors.ts'
import { chatRequest, type ChatCompletion, type ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { Backend, WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { loadNative } from '../../../../../gpu-node/src/platform/native-addon.ts'
import { createGrammarCompiler } from '../../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { addon, BACKENDS } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import {
  call,
  readEvents,
  startTestNode,
  type TestNode,
} from '../../../../support/processes/in-process-node.ts'
import { CLOCK, FORMAT, PARAMETERS, PERSON, WEATHER } from '../../../../support/text/structured-requests.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'the cat' }], seed: 3 }

const json = async <T>(response: Response) => (await response.json()) as T
const fits = (schema: object, text: string | null | undefined) =>
  new Ajv2020().validate(schema, JSON.parse(text ?? ''))

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Handles a client's body as the gateway does: rejects invalid fields, or sends it to the node. */
async function ask(node: TestNode, body: object): Promise<Response> {
  try {
    return await node.post('/rpc/chat-completions', call(validate(chatRequest, body)))
  } catch (thrown) {
    const error = toAppError(thrown)
    return Response.json(errorBody(error), { status: error.status })
  }
}

/** Creates the official client, whose calls reach the node as the gateway sends them. */
function clientOf(node: TestNode): OpenAI {
  return new OpenAI({
    apiKey: 'sk-test',
    baseURL: 'http://gateway/v1',
    maxRetries: 0,
    fetch: (_, init) => ask(node, JSON.parse(init?.body as string) as object),
  })
}

const chunksOf = (events: readonly unknown[]) =>
  events.filter((event): event is ChatCompletionChunk => typeof event === 'object' && event !== null)

/** Joins the deltas of a stream into tool calls. */
function joinCalls(chunks: readonly ChatCompletionChunk[]) {
  const calls: { id: string; type: string; name: string; arguments: string }[] = []
  for (const { choices } of chunks) {
    for (const delta of choices[0]?.delta.tool_calls ?? []) {
      if (delta.id !== undefined)
        calls.push({ id: delta.id, type: delta.type ?? '', name: delta.function.name ?? '', arguments: '' })
      calls[delta.index]!.arguments += delta.function.arguments ?? ''
    }
  }
  return calls
}

describe.each(BACKENDS.slice(0, 2))('$name', ({ create }) => {
  let tiny: TinyModel
  let backend: Backend
  let weights: WeightSet
  let node: TestNode

  beforeAll(async () => {
    tiny = await openTinyModel({ contextLength: 2048, tied: false })
    backend = create(join(tiny.dir, 'work'))
    weights = await backend.load({ model: tiny.model, version: 0, maskPath: null, priority: 'serving' })
    node = await startTestNode({ backend, model: tiny.model })
    node.engine.setActive(weights)
  })
  afterAll(async () => {
    await node.close()
    await backend.release(weights)
    await tiny.remove()
  })

  const post = (fields: object) => ask(node, { ...CHAT, ...fields })
  const answer = async (fields: object) => json<ChatCompletion>(await post(fields))
  const stream = async (fields: object) => chunksOf(await readEvents(await post({ ...fields, stream: true })))

  if (addon) testStructure()
  else testWithout()

  function testWithout(): void {
    skipWithoutAddon('structured answers')
    test('without the addon structured output is rejected, not returned as text', async () => {
      const response = await post({ response_format: FORMAT })
      expect(response.status).toBe(400)
      expect((await json<ErrorBody>(response)).error.message).toMatch(/build-native\.mjs/)
    })
  }

  function testStructure(): void {
    test('output with a schema parses and fits it at any temperature, streamed and in one piece', async () => {
      for (const [seed, temperature] of [0, 0.5, 1, 2].entries()) {
        const whole = await answer({ response_format: FORMAT, temperature, seed })
        const [choice] = whole.choices
        expect(choice?.finish_reason).toBe('stop')
        expect(fits(PERSON, choice?.message.content)).toBe(true)
        const chunks = await stream({ response_format: FORMAT, temperature, seed })
        expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
          choice?.message.content,
        )
        expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('stop')
      }
    })

    test('several choices and several requests at once each fit their own schema', async () => {
      const other = {
        type: 'object',
        properties: { ok: { type: 'boolean' } },
        required: ['ok'],
        additionalProperties: false,
      }
      const [people, flags, plain] = await Promise.all([
        answer({ response_format: FORMAT, n: 3 }),
        answer({
          response_format: { type: 'json_schema', json_schema: { name: 'flag', schema: other } },
          n: 2,
        }),
        answer({ max_tokens: 20 }),
      ])
      for (const { message } of people.choices) expect(fits(PERSON, message.content)).toBe(true)
      for (const { message } of flags.choices) expect(fits(other, message.content)).toBe(true)
      expect([people.choices.length, flags.choices.length, plain.choices.length]).toEqual([3, 2, 1])
    })

    test('JSON mode starts an object, and truncated output reports it', async () => {
      const { choices } = await answer({ response_format: { type: 'json_object' }, max_tokens: 12 })
      expect(choices[0]?.message.content).toMatch(/^\{/)
      expect(isJson(choices[0]?.message.content ?? '')).toBe(choices[0]?.finish_reason === 'stop')
      const cut = await answer({ response_format: FORMAT, max_tokens: 3 })
      expect(cut.choices[0]).toMatchObject({ finish_reason: 'length' })
      expect(isJson(cut.choices[0]?.message.content ?? '')).toBe(false)
    })

    test('log-probabilities are those of the model, whatever the schema forbids', async () => {
      const fields = { response_format: FORMAT, logprobs: true, top_logprobs: 5, temperature: 0 }
      const { choices } = await answer(fields)
      const tokens = choices[0]?.logprobs?.content ?? []
      expect(tokens.map(({ bytes }) => Buffer.from(bytes).toString('latin1')).join('')).toBe(
        Buffer.from(choices[0]?.message.content ?? '').toString('latin1'),
      )
      // The first token of free output is the most likely one; that of the schema is '{'.
      const free = await answer({ logprobs: true, top_logprobs: 5, temperature: 0, max_tokens: 1 })
      expect(free.choices[0]?.message.content).not.toBe('{')
      expect(tokens[0]?.top_logprobs[0]?.logprob).toBeGreaterThan(tokens[0]?.logprob ?? 0)
    })

    test('required tools are called with arguments that fit, streamed and in one piece', async () => {
      const fields = { tools: [WEATHER, CLOCK], tool_choice: 'required', max_tokens: 400 }
      for (const seed of [1, 2, 3]) {
        const { choices } = await answer({ ...fields, seed, parallel_tool_calls: false })
        const [choice] = choices
        expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
        const [made, ...more] = choice?.message.tool_calls ?? []
        expect(more).toEqual([])
        expect(made).toMatchObject({ id: expect.stringMatching(/^call_\w{24}$/), type: 'function' })
        expect(fits(PARAMETERS[made?.function.name ?? ''] ?? {}, made?.function.arguments)).toBe(true)

        const chunks = await stream({ ...fields, seed, parallel_tool_calls: false })
        expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: null })
        expect(joinCalls(chunks)).toEqual([
          { id: expect.stringMatching(/^call_/), type: 'function', ...made?.function },
        ])
        expect(chunks.at(-1)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'tool_calls' })
      }
    })

    test('a named tool is called', async () => {
      for (const name of ['weather', 'clock']) {
        const { choices } = await answer({
          tools: [WEATHER, CLOCK],
          tool_choice: { type: 'function', function: { name } },
          max_tokens: 200,
        })
        expect(choices[0]?.message.tool_calls?.map((made) => made.function.name)).toEqual([name])
        expect(choices[0]?.finish_reason).toBe('tool_calls')
      }
    })

    test('with optional tools text stays text, and tool_choice none leaves them out of the prompt', async () => {
      const auto = await answer({ tools: [CLOCK], max_tokens: 12, logprobs: true })
      expect(auto.choices[0]?.message.tool_calls).toBeUndefined()
      expect(auto.choices[0]?.message.content).toBeTypeOf('string')
      expect(auto.choices[0]?.logprobs?.content).toHaveLength(12)
      const chunks = await stream({ tools: [CLOCK], max_tokens: 12 })
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(
        auto.choices[0]?.message.content,
      )
      const plain = await answer({ max_tokens: 12 })
      expect(await answer({ tools: [CLOCK], tool_choice: 'none', max_tokens: 12 })).toMatchObject({
        choices: [{ message: { content: plain.choices[0]?.message.content } }],
        usage: plain.usage,
      })
    })

    test('a conversation continues with calls and their results', async () => {
      const messages = [
        ...CHAT.messages,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{}' } }],
        },
        { role: 'tool', tool_call_id: 'call_1', content: 'noon' },
      ]
      const { choices, usage } = await answer({ messages, tools: [CLOCK], max_tokens: 5 })
      expect(choices).toHaveLength(1)
      const short = await answer({ tools: [CLOCK], max_tokens: 5 })
      expect(usage.prompt_tokens).toBeGreaterThan(short.usage.prompt_tokens)
    })

    test('the official client parses formats and calls', async () => {
      const client = clientOf(node)
      const person = z.object({ name: z.string().max(8), age: z.int().min(0).max(150), tea: z.boolean() })
      const parsed = await client.chat.completions.parse({
        model: 'tiny',
        messages: [{ role: 'user', content: 'who?' }],
        response_format: zodResponseFormat(person, 'person'),
      })
      expect(person.parse(parsed.choices[0]?.message.parsed)).toEqual(parsed.choices[0]?.message.parsed)

      const streamed = client.chat.completions.stream({
        model: 'tiny',
        messages: [{ role: 'user', content: 'when?' }],
        tools: [zodFunction({ name: 'wait', parameters: z.object({ minutes: z.int().min(1).max(60) }) })],
        tool_choice: 'required',
        parallel_tool_calls: false,
      })
      const final = await streamed.finalChatCompletion()
      const [made] = final.choices[0]?.message.tool_calls ?? []
      expect(final.choices[0]?.finish_reason).toBe('tool_calls')
      expect(made).toMatchObject({
        function: { name: 'wait', parsed_arguments: { minutes: expect.any(Number) } },
      })
    })

    test('a function that need not be strict is called though its schema has unsupported keywords', async () => {
      const names = { type: 'array', items: { enum: ['a', 'b'] }, maxItems: 2, uniqueItems: true }
      const at = { type: 'string', format: 'uri-reference', pattern: '^(?!x)', maxLength: 3 }
      const parameters = { type: 'object', properties: { names, at }, required: ['names', 'at'] }
      const { choices } = await answer({
        tools: [{ type: 'function', function: { name: 'f', parameters } }],
        tool_choice: { type: 'function', function: { name: 'f' } },
      })
      const [made] = choices[0]!.message.tool_calls!
      const input: unknown = JSON.parse(made!.function.arguments)
      const expected = z.strictObject({ names: z.array(z.enum(['a', 'b'])).max(2), at: z.string() })
      expect(expected.parse(input)).toEqual(input)
    })

    test('an object that lists its properties has no others', async () => {
      const schema = {
        type: 'object',
        properties: { a: { type: 'object', properties: {} } },
        required: ['a'],
      }
      const response_format = { type: 'json_schema', json_schema: { name: 'a', schema } }
      for (const seed of [1, 2, 3]) {
        const { choices } = await answer({ response_format, seed })
        expect(choices[0]!.message.content).toBe('{"a": {}}')
      }
    })

    test('the official client runs tools until the output is text', async () => {
      const client = clientOf(node)
      const asked: number[] = []
      const runner = client.chat.completions.runTools(
        {
          model: 'tiny',
          messages: [{ role: 'user', content: 'how late?' }],
          max_tokens: 200,
          tool_choice: { type: 'function', function: { name: 'wait' } },
          tools: [
            zodFunction({
              name: 'wait',
              parameters: z.object({ minutes: z.int().min(1).max(60) }),
              function: ({ minutes }) => {
                asked.push(minutes)
                return 'done'
              },
            }),
          ],
        },
        { maxChatCompletions: 1 },
      )
      await runner.done()
      expect(asked).toHaveLength(1)
      expect(runner.messages.at(-1)).toMatchObject({ role: 'tool', content: 'done' })
    })

    describe('unsupported schemas are rejected with the field and the keyword', () => {
      const formatOf = (schema: unknown) => ({
        response_format: { type: 'json_schema', json_schema: { name: 'a', schema } },
      })
      const toolOf = (parameters: unknown) => ({
        tools: [CLOCK, { type: 'function', function: { name: 'f', parameters, strict: true } }],
      })
      test.each<[string, object, string, RegExp]>([
        [
          'not',
          formatOf({ properties: { a: { not: { const: 1 } } } }),
          'response_format.json_schema.schema',
          /'not' at #\/properties\/a/,
        ],
        [
          'uniqueItems',
          toolOf({ type: 'array', uniqueItems: true }),
          'tools[1].function.parameters',
          /'uniqueItems' at #/,
        ],
        [
          'pattern',
          formatOf({ type: 'string', pattern: '(?!a)b' }),
          'response_format.json_schema.schema',
          /look-around/,
        ],
        [
          'tool pattern',
          toolOf({ properties: { a: { type: 'string', pattern: '(?!a)b' } } }),
          'tools[1].function.parameters',
          /look-around/,
        ],
        ['no object', formatOf('any'), 'response_format.json_schema.schema', /object/],
        [
          'a name',
          { response_format: { type: 'json_schema', json_schema: { name: 'a b' } } },
          'response_format.json_schema.name',
          /letters/,
        ],
        ['a type', { response_format: { type: 'xml' } }, 'response_format.type', /./],
        [
          'twice',
          { tools: [CLOCK, CLOCK] },
          'tools[1].function.name',
          /another tool is already named 'clock'/,
        ],
        ['no tools', { tool_choice: 'required' }, 'tool_choice', /requires 'tools'/],
        [
          'unknown tool',
          { tools: [CLOCK], tool_choice: { type: 'function', function: { name: 'g' } } },
          'tool_choice.function.name',
          /no tool is named 'g'/,
        ],
        [
          'depth',
          formatOf(JSON.parse('{"items":'.repeat(100) + '{}' + '}'.repeat(100))),
          'response_format.json_schema.schema',
          /deep/,
        ],
        [
          'size',
          formatOf({ enum: Array.from({ length: 9000 }, (_, index) => `value ${index}`) }),
          'response_format.json_schema.schema',
          /characters/,
        ],
      ])('%s', async (_, fields, param, message) => {
        const response = await post(fields)
        expect(response.status).toBe(400)
        const { error } = await json<ErrorBody>(response)
        expect(error).toMatchObject({
          code: 'invalid_request',
          param,
          message: expect.stringMatching(message),
        })
      })

      test("as the official client's error", async () => {
        const asking = clientOf(node).chat.completions.create({
          model: 'tiny',
          messages: [{ role: 'user', content: 'a' }],
          response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { not: {} } } },
        })
        await expect(asking).rejects.toThrow(BadRequestError)
        await expect(asking).rejects.toMatchObject({ param: 'response_format.json_schema.schema' })
      })
    })
  }
})

test('a node without its addon rejects structured output with a remedy, and serves plain text', async () => {
  const tiny = await openTinyModel()
  const { create } = BACKENDS[0]!
  const backend = create(join(tiny.dir, 'work'))
  const weights = await backend.load({ model: tiny.model, version: 0, maskPath: null, priority: 'serving' })
  const grammars = createGrammarCompiler({ ...tiny.model, load: () => loadNative(['/nowhere/copal.node']) })
  const node = await startTestNode({ backend, model: tiny.model, grammars })
  node.engine.setActive(weights)
  try {
    for (const [fields, param] of [
      [{ response_format: { type: 'json_object' } }, 'response_format'],
      [{ tools: [WEATHER] }, 'tools'],
    ] as const) {
      const response = await ask(node, { ...CHAT, ...fields })
      expect(response.status).toBe(400)
      expect((await json<ErrorBody>(response)).error).toMatchObject({
        param,
        message: expect.stringMatching(/native addon is missing.*build-native\.mjs/),
      })
    }
    expect((await node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 2 }))).status).toBe(200)
  } finally {
    await node.close()
    await backend.release(weights)
    await tiny.remove()
  }
})
