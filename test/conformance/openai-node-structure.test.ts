/** Text formats and tools of responses with OpenAI's Node client. The output of a random model is nonsense, but it fits. */
import OpenAI, { BadRequestError } from 'openai'
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod'
import type { ResponseInputItem, ResponseStreamEvent } from 'openai/resources/responses/responses'
import { describe, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { collect } from '../support/harness/collect.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'

const service = inject('service')
const client = new OpenAI({ baseURL: service.baseUrl, apiKey: service.apiKey, maxRetries: 0 })
const ask = { model: 'tiny', input: 'the cat sat on the mat', max_output_tokens: 300 }

// Schemas with finite sets of values, so that every output ends.
const person = z.strictObject({
  name: z.string().max(8),
  age: z.int().min(0).max(150),
  likes: z.array(z.enum(['tea', 'milk'])).max(3),
})
const weatherArguments = z.strictObject({ city: z.string().max(6), unit: z.enum(['C', 'F']) })
const weather = zodResponsesFunction({
  name: 'weather',
  description: 'The weather in a city',
  parameters: weatherArguments,
})
const clock = { type: 'function' as const, name: 'clock', parameters: null, strict: true }

if (service.keepsGrammars) testStructure()
else testWithout()

function testWithout(): void {
  skipWithoutAddon('structured answers')
  test('without the addon a format is rejected, and the error says what to do', async () => {
    const asking = client.responses.create({ ...ask, text: { format: { type: 'json_object' } } })
    await expect(asking).rejects.toThrow(/build-native\.mjs/)
  })
}

function testStructure(): void {
  describe('a format', () => {
    test('gives output that parses, streamed and not streamed', async () => {
      const fields = { ...ask, temperature: 0, text: { format: zodTextFormat(person, 'person') } }
      const whole = await client.responses.parse(fields)
      expect(whole.status).toBe('completed')
      expect(person.parse(whole.output_parsed)).toEqual(whole.output_parsed)
      expect(whole.text?.format).toMatchObject({ type: 'json_schema', name: 'person' })
      const stream = client.responses.stream(fields)
      const events = await collect(stream)
      const deltas = events.flatMap((event) =>
        event.type === 'response.output_text.delta' ? [event.delta] : [],
      )
      expect(deltas.length).toBeGreaterThan(1)
      expect(deltas.join('')).toBe(whole.output_text)
      expect((await stream.finalResponse()).output_parsed).toEqual(whole.output_parsed)
    })

    test('of any JSON object gives an object, or an incomplete response', async () => {
      const response = await client.responses.create({
        ...ask,
        max_output_tokens: 20,
        text: { format: { type: 'json_object' } },
      })
      expect(response.output_text).toMatch(/^\{/)
      const isWhole = response.status === 'completed'
      expect(response.incomplete_details).toEqual(isWhole ? null : { reason: 'max_output_tokens' })
      expect(isJson(response.output_text)).toBe(isWhole)
    })

    test.each<[object, string, RegExp]>([
      [
        { text: { format: { type: 'json_schema', name: 'a', schema: { uniqueItems: true } } } },
        'text.format.schema',
        /'uniqueItems' at #/,
      ],
      [
        {
          text: { format: { type: 'json_schema', name: 'a', schema: { type: 'string', pattern: '(?!a)b' } } },
        },
        'text.format.schema',
        /look-around/,
      ],
      [
        { tools: [clock, { ...clock, name: 'x', strict: true, parameters: { uniqueItems: true } }] },
        'tools[1].parameters',
        /'uniqueItems' at #/,
      ],
    ])('that is not supported is rejected with its field: %j', async (fields, param, message) => {
      const asking = client.responses.create({ ...ask, ...fields })
      await expect(asking).rejects.toThrow(BadRequestError)
      await expect(asking).rejects.toMatchObject({ status: 400, param })
      await expect(asking).rejects.toThrow(message)
    })
  })

  describe('tools', () => {
    const required = { ...ask, tools: [weather, clock], tool_choice: 'required' as const }

    test('are called with valid arguments, and the response echoes the tools', async () => {
      const response = await client.responses.parse({
        ...ask,
        tools: [weather, clock],
        tool_choice: { type: 'function', name: 'weather' },
      })
      expect(response).toMatchObject({
        status: 'completed',
        output_text: '',
        tool_choice: { type: 'function', name: 'weather' },
        tools: [{ type: 'function', name: 'weather' }, { name: 'clock' }],
      })
      const [call, ...more] = response.output
      expect(more).toEqual([])
      if (call?.type !== 'function_call') throw new Error('there is no call')
      expect(call.call_id).toMatch(/^call_/)
      expect(weatherArguments.parse(call.parsed_arguments)).toEqual(JSON.parse(call.arguments))
    })

    test('are called in a stream that the client accumulates: items, argument deltas, their ends', async () => {
      const fields = { ...required, parallel_tool_calls: false, temperature: 0 }
      const stream = client.responses.stream(fields)
      const events = await collect(stream)
      const types = [...new Set(events.map(({ type }) => type))]
      expect(types).toEqual([
        'response.created',
        'response.in_progress',
        'response.output_item.added',
        'response.function_call_arguments.delta',
        'response.function_call_arguments.done',
        'response.output_item.done',
        'response.completed',
      ])
      const final = await stream.finalResponse()
      expect(final.output).toMatchObject([{ type: 'function_call', arguments: argumentsOf(events)[0] }])
      const whole = await client.responses.create(fields)
      expect(whole.output).toMatchObject([
        { name: nameOf(final.output[0]), arguments: argumentsOf(events)[0] },
      ])
    })

    test('may be called several times in one response, and the conversation continues with each result', async () => {
      const { response, events } = await drawSeveralCalls()
      const calls = response.output.filter((item) => item.type === 'function_call')
      expect(calls.map((call) => call.arguments)).toEqual(argumentsOf(events))
      expect(new Set(calls.map((call) => call.call_id)).size).toBe(calls.length)
      for (const call of calls) {
        const schema = call.name === 'weather' ? weatherArguments : z.strictObject({})
        expect(schema.safeParse(JSON.parse(call.arguments)).success).toBe(true)
      }
      const results = calls.map(({ call_id }): ResponseInputItem => ({
        type: 'function_call_output',
        call_id,
        output: 'noon',
      }))
      const next = await client.responses.create({
        ...ask,
        input: [{ role: 'user', content: ask.input }, ...response.output, ...results] as ResponseInputItem[],
        tools: [weather, clock],
        tool_choice: 'none',
        max_output_tokens: 5,
      })
      const first = await client.responses.create({ ...ask, max_output_tokens: 5 })
      expect(next.usage?.input_tokens).toBeGreaterThan(first.usage?.input_tokens ?? Infinity)
      expect(next.output.map(({ type }) => type)).toEqual(['message'])
    })

    test('may stay unused: the output is text', async () => {
      const response = await client.responses.create({
        ...ask,
        tools: [clock],
        max_output_tokens: 8,
        temperature: 0,
      })
      expect(response.output.map(({ type }) => type)).toEqual(['message'])
    })

    test.each<[string, ResponseInputItem]>([
      ['an output without a call', { type: 'function_call_output', call_id: 'call_1', output: 'noon' }],
      [
        'a call without an output',
        { type: 'function_call', call_id: 'call_1', name: 'clock', arguments: '{}' },
      ],
    ])('need an output for each call: %s is rejected', async (_, item) => {
      const asking = client.responses.create({ ...ask, input: [{ role: 'user', content: 'a' }, item] })
      await expect(asking).rejects.toMatchObject({ status: 400, param: 'input[1].call_id' })
    })

    /** Samples responses until one has two calls and ends: the number of calls of a random model is chance. */
    async function drawSeveralCalls() {
      for (let turn = 0; turn < 500; turn++) {
        const stream = client.responses.stream({ ...required, temperature: 2 })
        const events = await collect(stream)
        const response = await stream.finalResponse()
        if (response.status === 'completed' && response.output.length > 1) return { response, events }
      }
      throw new Error('no answer had two calls')
    }
  })
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Returns the arguments of each call in a stream, joined from their deltas. */
function argumentsOf(events: readonly ResponseStreamEvent[]): string[] {
  const texts: string[] = []
  for (const event of events)
    if (event.type === 'response.function_call_arguments.delta')
      texts[event.output_index] = (texts[event.output_index] ?? '') + event.delta
  return texts
}

function nameOf(item: { type: string; name?: unknown } | undefined): unknown {
  return item?.name
}
