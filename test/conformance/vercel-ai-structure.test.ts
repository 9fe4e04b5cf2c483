/** Objects and tools as the Vercel AI SDK asks for them. A random model’s answers are nonsense, but they fit. */
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
/** Of the tiny model's tokens these come first, then one for each byte. */
const SPECIAL_TOKENS = 3
const ask = {
  model: provider('tiny'),
  system: 'be brief',
  prompt: 'the cat sat on the mat',
  temperature: 1,
  maxOutputTokens: 300,
  maxRetries: 0,
}

/** What a call that must fail threw, as the SDK's own error. */
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
  test('without the addon objects are refused, and the error says what to do', async () => {
    const output = Output.object({ schema: z.strictObject({ ok: z.boolean() }) })
    expect((await refusalOf(generateText({ ...ask, output }))).message).toMatch(/build-native\.mjs/)
  })
}

function testStructure(): void {
  describe('objects', () => {
    // A finite language, so that every answer ends.
    const person = z.strictObject({
      name: z.string().max(8),
      age: z.int().min(0).max(150),
      kind: z.enum(['cat', 'dog']),
      likes: z.array(z.enum(['tea', 'milk'])).max(3),
      owner: z.strictObject({ known: z.boolean() }).nullable(),
    })
    const asked = { ...ask, seed: 3 }

    test('generateText gives an object of its zod schema, at any temperature', async () => {
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

    test('generateObject, its older name, gives the same', async () => {
      const { object } = await generateObject({ ...asked, schema: person })
      const { output } = await generateText({ ...asked, output: Output.object({ schema: person }) })
      expect(person.parse(object)).toEqual(output)
    })

    test('streamText brings the object field by field, each state a part of the next, the last the whole', async () => {
      const result = streamText({ ...asked, output: Output.object({ schema: person }) })
      const states = await collect(result.partialOutputStream)
      const counts = states.map((state) => Object.keys(state).length)
      expect(new Set(counts).size).toBeGreaterThan(2)
      expect(counts).toEqual(counts.toSorted((one, other) => one - other))
      const output = await result.output
      expect(person.parse(output)).toEqual(states.at(-1))
      expect(await result.finishReason).toBe('stop')
    })

    test('streamText brings a list element by element', async () => {
      const element = z.strictObject({ age: z.int().min(0).max(9), kind: z.enum(['cat', 'dog']) })
      // Whether a list goes on is the model’s choice: with a bias against ']' it does until its tokens are used up.
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

    test('one of several choices is what is answered', async () => {
      const { output } = await generateText({ ...asked, output: Output.choice({ options: ['sun', 'rain'] }) })
      expect(['sun', 'rain']).toContain(output)
    })

    test('a schema that no answer can be kept to is refused with field and keyword', async () => {
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

    test('a call is made with input of its schema, run, and its result is sent back for the next step', async () => {
      const result = await generateText({
        ...ask,
        seed: 5,
        tools: { weather },
        stopWhen: isStepCount(2),
        // A random model would hardly call by itself.
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

    test('a streamed call brings its input piece by piece, then whole', async () => {
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

    test('several calls of one answer keep apart, and the next step gets the result of each', async () => {
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

    /** How many calls a random model makes is chance: of several drawn answers one has two, and ends. */
    async function drawSeveralCalls(tools: { weather: typeof weather; clock: typeof clock }) {
      for (let seed = 5; seed < 45; seed++) {
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

    test('tools may go together with an object as the answer', async () => {
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

    test('a tool’s schema that cannot be followed is refused by its place', async () => {
      const inputSchema = z.strictObject({ names: z.array(z.string()).meta({ uniqueItems: true }) })
      const error = await refusalOf(generateText({ ...ask, tools: { clock, other: tool({ inputSchema }) } }))
      expect(error.statusCode).toBe(400)
      expect(error.message).toMatch(/tools\[1\]\.function\.parameters.*'uniqueItems'/)
    })
  })
}
