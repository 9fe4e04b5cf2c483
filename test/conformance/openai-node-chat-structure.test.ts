/** Response formats and tools of chat completions with OpenAI's Node client. The output of the random model fits them. */
import OpenAI, { BadRequestError } from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import type { ChatCompletionMessageToolCall } from 'openai/resources/chat/completions'
import { describe, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { collect } from '../support/harness/collect.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'

const service = inject('service')
const client = new OpenAI({ baseURL: service.baseUrl, apiKey: service.apiKey, maxRetries: 0 })
/** The tiny model's first tokens are special, and one for each byte follows. */
const SPECIAL_TOKENS = 3
const ask = {
  model: 'tiny',
  messages: [{ role: 'user' as const, content: 'the cat sat on the mat' }],
  temperature: 0,
  max_completion_tokens: 300,
}

// Schemas with finite sets of values, so that every output ends.
const person = z.strictObject({ name: z.string().max(8), kind: z.enum(['cat', 'dog']) })
const weatherArguments = z.strictObject({ city: z.string().max(6), unit: z.enum(['C', 'F']) })
const weather = zodFunction({ name: 'weather', parameters: weatherArguments })
const clock = zodFunction({ name: 'clock', parameters: z.strictObject({ zone: z.int().min(-11).max(12) }) })

if (service.keepsGrammars) testStructure()
else testWithout()

function testWithout(): void {
  skipWithoutAddon('structured answers')
  test('without the addon a response format is rejected, and the error says what to do', async () => {
    const asking = client.chat.completions.create({ ...ask, response_format: { type: 'json_object' } })
    await expect(asking).rejects.toThrow(/build-native\.mjs/)
  })
}

function testStructure(): void {
  describe('a response format', () => {
    test('with a schema gives output that parses, streamed and not streamed', async () => {
      const fields = { ...ask, response_format: zodResponseFormat(person, 'person') }
      const whole = await client.chat.completions.parse(fields)
      const [choice] = whole.choices
      expect(choice?.finish_reason).toBe('stop')
      expect(person.parse(choice?.message.parsed)).toEqual(JSON.parse(choice?.message.content ?? ''))
      const stream = client.chat.completions.stream(fields)
      const pieces = (await collect(stream)).map(({ choices }) => choices[0]?.delta.content ?? '')
      expect(pieces.filter((piece) => piece !== '').length).toBeGreaterThan(1)
      expect(pieces.join('')).toBe(choice?.message.content)
      expect((await stream.finalChatCompletion()).choices[0]?.message.parsed).toEqual(choice?.message.parsed)
    })

    test('of any JSON object gives an object, or output with the finish reason length', async () => {
      const choiceOf = async (fields: object) => {
        const response_format = { type: 'json_object' as const }
        const asked = { ...ask, ...fields, max_completion_tokens: 20, response_format }
        return (await client.chat.completions.create(asked)).choices[0]
      }
      // The random model does not close its brackets by itself.
      const closes = { [SPECIAL_TOKENS + '}'.charCodeAt(0)]: 20 }
      const whole = await choiceOf({ logit_bias: closes })
      expect(whole?.finish_reason).toBe('stop')
      expect(z.looseObject({}).safeParse(JSON.parse(whole?.message.content ?? '')).success).toBe(true)
      const closesNever = { [SPECIAL_TOKENS + '}'.charCodeAt(0)]: -100 }
      const cut = await choiceOf({ logit_bias: closesNever })
      expect(cut?.finish_reason).toBe('length')
      expect(cut?.message.content).toMatch(/^\{[^}]+$/)
    })

    test('that is not supported is rejected with its field', async () => {
      const schema = { type: 'array', uniqueItems: true }
      const response_format = { type: 'json_schema' as const, json_schema: { name: 'a', schema } }
      const asking = client.chat.completions.create({ ...ask, response_format })
      await expect(asking).rejects.toThrow(BadRequestError)
      await expect(asking).rejects.toMatchObject({ status: 400, param: 'response_format.json_schema.schema' })
    })
  })

  describe('a forced function', () => {
    const forced = {
      ...ask,
      tools: [clock, weather],
      tool_choice: { type: 'function' as const, function: { name: 'weather' } },
    }

    test('is called once, with valid arguments and without text', async () => {
      const { choices } = await client.chat.completions.parse(forced)
      expect(choices).toMatchObject([{ finish_reason: 'tool_calls', message: { content: null } }])
      const [call, ...more] = choices[0]?.message.tool_calls ?? []
      expect(more).toEqual([])
      if (call?.type !== 'function') throw new Error('there is no call')
      expect(call.id).toMatch(/^call_/)
      expect(call.function.name).toBe('weather')
      expect(weatherArguments.parse(call.function.parsed_arguments)).toEqual(
        JSON.parse(call.function.arguments),
      )
    })

    test('is the same call in a stream: id and name first, then the arguments in deltas', async () => {
      const whole = await client.chat.completions.create(forced)
      const stream = client.chat.completions.stream(forced)
      const deltas = (await collect(stream)).flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? [])
      const [first, ...others] = deltas
      expect(first).toMatchObject({
        id: expect.stringMatching(/^call_/) as string,
        function: { name: 'weather' },
      })
      expect(others.length).toBeGreaterThan(1)
      for (const { index, id, function: piece } of others)
        expect([index, id, piece?.name]).toEqual([0, undefined, undefined])
      const { choices } = await stream.finalChatCompletion()
      const calls = choices[0]?.message.tool_calls
      const { arguments: text } = functionOf(whole.choices[0]?.message.tool_calls)
      expect(deltas.map((delta) => delta.function?.arguments ?? '').join('')).toBe(text)
      expect(functionOf(calls)).toMatchObject({ name: 'weather', arguments: text })
      expect([choices[0]?.finish_reason, calls?.[0]?.id]).toEqual(['tool_calls', first?.id])
    })
  })

  test('without a forced function the output is text', async () => {
    const { choices } = await client.chat.completions.create({
      ...ask,
      tools: [clock],
      max_completion_tokens: 8,
    })
    const { choices: plain } = await client.chat.completions.create({
      ...ask,
      tools: [clock],
      tool_choice: 'none',
      max_completion_tokens: 8,
    })
    for (const { message } of [...choices, ...plain]) {
      expect(message.tool_calls).toBeUndefined()
      expect(message.content).not.toBe('')
    }
  })
}

/** Returns the function of the only call of a message. */
function functionOf(calls: readonly ChatCompletionMessageToolCall[] | undefined) {
  const [call, ...more] = calls ?? []
  if (call?.type !== 'function' || more.length > 0) throw new Error('one call of a function is expected')
  return call.function
}
