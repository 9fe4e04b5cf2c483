/** Objects and tools with the Vercel AI SDK. The output of a random model is nonsense, but it fits. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateObject, generateText, isStepCount, Output, streamText, tool } from 'ai'
import { describe, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { collect } from '../support/harness/collect.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'

const service = inject('service')
const provider = createOpenAICompatible({
  name: 'copal',
  baseURL: service.baseUrl,
  apiKey: service.apiKey,
  supportsStructuredOutputs: true,
})
/** The tiny model's first tokens are special, and one for each byte follows. */
const SPECIAL_TOKENS = 3
const ask = {
  model: provider('tiny'),
  system: 'be brief',
  prompt: 'the cat sat on the mat',
  temperature: 1,
  maxOutputTokens: 300,
  maxRetries: 0,
}

/** Returns the SDK's error of a call that must fail. */
async function refusalOf(call: PromiseLike<unknown>): Promise<APICallError> {
  const error = await Promise.resolve(call).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!APICallError.isInstance(error)) throw new Error('expected an APICallError', { cause: error })
  return error
}

if (service.keepsGrammars) testStructure()
else testWithout()

function testWithout(): void {
  skipWithoutAddon('structured answers')
  test('without the addon objects are rejected, and the error says what to do', async () => {
    const output = Output.object({ schema: z.strictObject({ ok: z.boolean() }) })
    expect((await refusalOf(generateText({ ...ask, output }))).message).toMatch(/build-native\.mjs/)
  })
}

function testStructure(): void {
  describe('objects', () => {
    // A schema with a finite set of values, so that every output ends.
    const person = z.strictObject({
      name: z.string().max(8),
      age: z.int().min(0).max(150),
      kind: z.enum(['cat', 'dog']),
      likes: z.array(z.enum(['tea', 'milk'])).max(3),
      owner: z.strictObject({ known: z.boolean() }).nullable(),
    })
    const asked = { ...ask, seed: 3 }

    test('generateText returns an object of its zod schema at any temperature', async () => {
      for (const [seed, temperature] of [0, 1, 2].entries()) {
        const { output, finishReason, usage } = await generateText({
          ...asked,
          seed,
          temperature,
          output: Output.object({ schema: person, name: 'person', description: 'who it is' }),
        })
        expect(person.parse(output)).toEqual(output)
        expect(finishReason).toBe('stop')
        expect(usage.outputTokens).toBeGreaterThan(0)
      }
    })

    test('generateObject, the older function, returns the same object', async () => {
      const { object } = await generateObject({ ...asked, schema: person })
      const { output } = await generateText({ ...asked, output: Output.object({ schema: person }) })
      expect(person.parse(object)).toEqual(output)
    })

    test('streamText streams growing states of the object up to the whole object', async () => {
      const result = streamText({ ...asked, output: Output.object({ schema: person }) })
      const states = await collect(result.partialOutputStream)
      const counts = states.map((state) => Object.keys(state).length)
      expect(new Set(counts).size).toBeGreaterThan(2)
      expect(counts).toEqual(counts.toSorted((one, other) => one - other))
      const output = await result.output
      expect(person.parse(output)).toEqual(states.at(-1))
      expect(await result.finishReason).toBe('stop')
    })

    test('streamText streams a list element by element', async () => {
      const element = z.strictObject({ age: z.int().min(0).max(9), kind: z.enum(['cat', 'dog']) })
      // A bias against ']' makes the list continue until the token limit.
      const bias = { [`${SPECIAL_TOKENS + ']'.charCodeAt(0)}`]: -100 }
      const result = streamText({
        ...asked,
        output: Output.array({ element }),
        providerOptions: { copal: { logit_bias: bias } },
      })
      const elements = await collect(result.elementStream)
      expect(elements.length).toBeGreaterThan(1)
      for (const each of elements) expect(element.parse(each)).toEqual(each)
    })

    test('a choice output is one of its options', async () => {
      const { output } = await generateText({ ...asked, output: Output.choice({ options: ['sun', 'rain'] }) })
      expect(['sun', 'rain']).toContain(output)
    })

    test('records, other formats and durations fit their zod schemas', async () => {
      const schema = z.object({
        marks: z.record(z.enum(['art', 'maths']), z.boolean()),
        flags: z.record(z.string(), z.boolean()).meta({ maxProperties: 0 }),
        code: z.e164().meta({ maxLength: 9 }),
        time: z.iso.duration().meta({ maxLength: 6 }),
        nothing: z.never().optional(),
      })
      const { output } = await generateText({ ...asked, output: Output.object({ schema }) })
      expect(schema.parse(output)).toEqual(output)
      expect(Object.keys(output.marks)).toEqual(['art', 'maths'])
    })

    test('a schema that is not supported is rejected with its field and keyword', async () => {
      const schema = z.looseObject({ names: z.array(z.string()).meta({ uniqueItems: true }) })
      const error = await refusalOf(generateText({ ...asked, output: Output.object({ schema }) }))
      expect([error.statusCode, error.isRetryable]).toEqual([400, false])
      expect(error.message).toMatch(
        /response_format\.json_schema\.schema.*'uniqueItems' at #\/properties\/names/,
      )
    })
  })

  describe('tools', () => {
    const weatherInput = z.strictObject({ city: z.string().max(6), unit: z.enum(['C', 'F']) })
    const clockInput = z.strictObject({ zone: z.int().min(-11).max(12) })
    const weather = tool({
      description: 'The weather in a city',
      inputSchema: weatherInput,
      execute: ({ unit }) => `12 ${unit}`,
    })
    const clock = tool({ description: 'The time', inputSchema: clockInput, execute: () => 'noon' })

    test('a tool is called with valid input, and its result is sent back in the next step', async () => {
      const result = await generateText({
        ...ask,
        seed: 5,
        tools: { weather },
        stopWhen: isStepCount(2),
        // A random model hardly calls a tool by itself.
        prepareStep: ({ stepNumber }) =>
          stepNumber === 0 ? { toolChoice: { type: 'tool', toolName: 'weather' } } : { toolChoice: 'none' },
      })
      const [first, second, ...more] = result.steps
      expect(more).toEqual([])
      expect(first?.finishReason).toBe('tool-calls')
      const [call] = first?.toolCalls ?? []
      expect(call).toMatchObject({ toolName: 'weather', toolCallId: expect.stringMatching(/^call_/) })
      const input = weatherInput.parse(call?.input)
      expect(first?.toolResults).toMatchObject([{ toolCallId: call?.toolCallId, output: `12 ${input.unit}` }])
      expect(second?.toolCalls).toEqual([])
      const without = await generateText({ ...ask, toolChoice: 'none', tools: { weather } })
      expect(second?.usage.inputTokens).toBeGreaterThan(without.usage.inputTokens ?? Infinity)
    })

    test('a streamed call delivers its input in deltas, then as a whole', async () => {
      const result = streamText({
        ...ask,
        seed: 2,
        tools: { weather },
        toolChoice: 'required',
        providerOptions: { copal: { parallel_tool_calls: false } },
      })
      const parts = await collect(result.fullStream)
      const [started, ...others] = parts.filter((part) => part.type === 'tool-input-start')
      expect(others).toEqual([])
      const deltas = parts.flatMap((part) => (part.type === 'tool-input-delta' ? [part.delta] : []))
      expect(deltas.length).toBeGreaterThan(1)
      const [call] = await result.toolCalls
      expect(call).toMatchObject({ toolName: 'weather', toolCallId: started?.id })
      expect(weatherInput.parse(call?.input)).toEqual(JSON.parse(deltas.join('')))
      expect(parts.some((part) => part.type === 'tool-result' && part.toolCallId === started?.id)).toBe(true)
      expect(await result.finishReason).toBe('tool-calls')
    })

    test('several calls of one response stay separate, and the next step gets the result of each', async () => {
      const tools = { weather, clock }
      const inputs = { weather: weatherInput, clock: clockInput }
      const { drawn, step, next } = await drawSeveralCalls(tools)
      for (const { toolName, input } of step.toolCalls)
        expect(inputs[toolName as keyof typeof inputs].parse(input)).toEqual(input)
      const ids = step.toolCalls.map(({ toolCallId }) => toolCallId)
      expect(new Set(ids).size).toBe(ids.length)
      expect(step.toolResults.map(({ toolCallId }) => toolCallId).toSorted()).toEqual(ids.toSorted())
      expect(next?.text.length).toBeGreaterThan(0)
      const whole = await generateText({ ...drawn, stopWhen: isStepCount(1) })
      expect(whole.toolCalls.map(({ toolName, input }) => [toolName, input])).toEqual(
        step.toolCalls.map(({ toolName, input }) => [toolName, input]),
      )
    })

    /** Samples responses until one has two calls and ends: the number of calls of a random model is chance. */
    async function drawSeveralCalls(tools: { weather: typeof weather; clock: typeof clock }) {
      for (let seed = 5; seed < 505; seed++) {
        const drawn = { ...ask, seed, temperature: 2, tools, toolChoice: 'required' as const }
        const result = streamText({
          ...drawn,
          stopWhen: isStepCount(2),
          prepareStep: ({ stepNumber }) => (stepNumber === 0 ? {} : { toolChoice: 'none' as const }),
        })
        const [step, next] = await result.steps
        if (step && step.finishReason === 'tool-calls' && step.toolCalls.length > 1)
          return { drawn, step, next }
      }
      throw new Error('no answer had two calls')
    }

    test('tools can be combined with an object output', async () => {
      const schema = z.strictObject({ ok: z.boolean() })
      const { output, toolCalls } = await generateText({
        ...ask,
        tools: { clock },
        toolChoice: 'none',
        output: Output.object({ schema }),
      })
      expect(toolCalls).toEqual([])
      expect(schema.parse(output)).toEqual(output)
    })

    test('a tool schema that is not supported is rejected with its position if it is strict, else followed in part', async () => {
      const names = z
        .array(z.enum(['a', 'b']))
        .max(2)
        .meta({ uniqueItems: true })
      const inputSchema = z.strictObject({ names })
      const strict = tool({ inputSchema, strict: true, execute: () => 'done' })
      const error = await refusalOf(generateText({ ...ask, tools: { clock, other: strict } }))
      expect(error.statusCode).toBe(400)
      expect(error.message).toMatch(/tools\[1\]\.function\.parameters.*'uniqueItems'/)
      const { toolCalls } = await generateText({
        ...ask,
        tools: { clock, other: tool({ inputSchema, execute: () => 'done' }) },
        toolChoice: { type: 'tool', toolName: 'other' },
      })
      expect(inputSchema.parse(toolCalls[0]?.input)).toEqual(toolCalls[0]?.input)
    })
  })
}
