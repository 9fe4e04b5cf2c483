/** The legacy completions with OpenAI's Node client. */
import OpenAI, { BadRequestError } from 'openai'
import { describe, expect, inject, test } from 'vitest'
import { collect } from '../support/harness/collect.ts'

const service = inject('service')
const client = new OpenAI({ baseURL: service.baseUrl, apiKey: service.apiKey, maxRetries: 0 })
/** Greedy, so that two requests can be compared. */
const prompt = { model: 'tiny', prompt: 'the cat sat on', temperature: 0, max_tokens: 8 }
/** Sampled at a high temperature, so that different seeds differ at once. */
const drawn = { ...prompt, temperature: 1.5 }

/** Biases of letters, whose tokens follow three special ones. A bias of 100 excludes all other tokens. */
function biasOf(letters: string, bias = 100): Record<string, number> {
  return Object.fromEntries(Array.from(letters, (letter) => [3 + letter.charCodeAt(0), bias]))
}

async function textOf(
  fields: Partial<OpenAI.CompletionCreateParamsNonStreaming>,
): Promise<string | undefined> {
  const { choices } = await client.completions.create({ ...prompt, ...fields })
  return choices[0]?.text
}

test('continue a text, streamed and not streamed, with log-probabilities in the legacy shape', async () => {
  const whole = await client.completions.create({ ...prompt, logprobs: 2 })
  const told = whole.choices[0]?.logprobs
  expect(told?.tokens).toHaveLength(whole.usage!.completion_tokens)
  expect(told?.top_logprobs?.map((top) => Object.keys(top).length)).toEqual(told?.tokens?.map(() => 2))
  const chunks = await collect(await client.completions.create({ ...prompt, logprobs: 2, stream: true }))
  expect(chunks.length).toBeGreaterThan(2)
  expect(chunks.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe(whole.choices[0]?.text)
  for (const part of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const) {
    const pieces = chunks.flatMap(({ choices }): unknown[] => choices[0]?.logprobs?.[part] ?? [])
    expect(pieces).toEqual(told?.[part])
  }
})

test('repeat a prompt before the output, with the log-probabilities of its tokens, streamed and not streamed', async () => {
  const echoed = { ...prompt, prompt: ['the cat sat on', 'a mat'], echo: true, logprobs: 1 }
  const whole = await client.completions.create(echoed)
  const [first, second] = whole.choices
  expect(first?.text.startsWith('the cat sat on')).toBe(true)
  expect(first?.logprobs?.token_logprobs).toHaveLength(first!.logprobs!.tokens!.length)
  expect(first?.logprobs?.token_logprobs?.[0]).toBeNull()
  const chunks = await collect(await client.completions.create({ ...echoed, stream: true }))
  for (const choice of [first!, second!]) {
    const own = chunks.flatMap(({ choices }) => choices.filter(({ index }) => index === choice.index))
    expect(own.map(({ text }) => text).join('')).toBe(choice.text)
    const scores = own.flatMap(({ logprobs }): unknown[] => logprobs?.token_logprobs ?? [])
    expect(scores).toEqual(choice.logprobs?.token_logprobs)
  }
  const read = await client.completions.create({ ...echoed, max_tokens: 0 })
  expect(read.choices.map(({ text, finish_reason: reason }) => [text, reason])).toEqual([
    ['the cat sat on', 'length'],
    ['a mat', 'length'],
  ])
  expect(read.usage).toMatchObject({ prompt_tokens: whole.usage!.prompt_tokens, completion_tokens: 0 })
  expect(read.choices[1]?.logprobs?.token_logprobs).toEqual(
    second?.logprobs?.token_logprobs?.slice(0, read.choices[1]!.logprobs!.tokens!.length),
  )
})

test('continue several texts, each as it would be alone', async () => {
  const both = await client.completions.create({ ...prompt, prompt: ['the cat', 'a mat'], n: 1 })
  expect(both.choices.map(({ index }) => index)).toEqual([0, 1])
  expect(both.choices[1]?.text).toBe(await textOf({ prompt: 'a mat' }))
})

test('end before a stop sequence, streamed and not streamed', async () => {
  const long = { ...prompt, max_tokens: 40 }
  const text = (await textOf(long)) ?? ''
  const stop = /[a-z]{2}/.exec(text.slice(1))?.[0] ?? ''
  expect(stop).not.toBe('')
  const cut = { finish_reason: 'stop', text: text.slice(0, text.indexOf(stop)) }
  const stopped = { ...long, stop: ['is not there', stop] }
  expect((await client.completions.create(stopped)).choices).toMatchObject([cut])
  const chunks = await collect(await client.completions.create({ ...stopped, stream: true }))
  expect(chunks.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe(cut.text)
  expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe('stop')
})

test('have several choices, each streamed with its index, and count the prompt once', async () => {
  const two = { ...drawn, seed: 7, n: 2 }
  const whole = await client.completions.create(two)
  const texts = whole.choices.map(({ text }) => text)
  expect(whole.choices.map(({ index }) => index)).toEqual([0, 1])
  expect(texts[0]).not.toBe(texts[1])
  const one = await client.completions.create({ ...two, n: 1 })
  expect(one.choices[0]?.text).toBe(texts[0])
  expect(one.usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens)
  const streamed = ['', '']
  for await (const chunk of await client.completions.create({ ...two, stream: true }))
    for (const { index, text } of chunk.choices) streamed[index] += text
  expect(streamed).toEqual(texts)
})

test('are the same for the same seed and differ for another seed', async () => {
  const first = await textOf({ ...drawn, seed: 7 })
  expect(await textOf({ ...drawn, seed: 7 })).toBe(first)
  expect(await textOf({ ...drawn, seed: 8 })).not.toBe(first)
})

test('follow biases: a forced token is the only one, a forbidden one never occurs', async () => {
  expect(await textOf({ logit_bias: biasOf('C') })).toBe('C'.repeat(8))
  expect(await textOf({ logit_bias: biasOf('CD') })).toMatch(/^[CD]{8}$/)
  expect(await textOf({ logit_bias: { ...biasOf('CD'), ...biasOf('C', -100) } })).toBe('D'.repeat(8))
})

test('repeat less with a frequency or presence penalty, and more with a negative one', async () => {
  const letters = async (penalty: object) =>
    new Set(await textOf({ ...penalty, logit_bias: biasOf('ABCDEFGH'), max_tokens: 40 })).size
  const without = await letters({})
  for (const penalty of ['frequency_penalty', 'presence_penalty']) {
    expect(await letters({ [penalty]: 2 })).toBeGreaterThan(without)
    expect(await letters({ [penalty]: -2 })).toBeLessThan(without)
  }
})

test('are penalised once per repetition by the frequency penalty and once in all by the presence penalty', async () => {
  // Five penalties.
  const biased = { logit_bias: { ...biasOf('C', 100), ...biasOf('D', 90) }, max_tokens: 40 }
  expect(await textOf({ ...biased, presence_penalty: 2 })).toBe('C'.repeat(40))
  expect(await textOf({ ...biased, frequency_penalty: 2 })).toMatch(/^CC+DD*C/)
})

test('report the usage of a stream in a chunk of its own if requested', async () => {
  const { usage } = await client.completions.create(prompt)
  const { prompt_tokens_details: _, ...counts } = usage!
  const stream = await client.completions.create({
    ...prompt,
    stream: true,
    stream_options: { include_usage: true },
  })
  const chunks = await collect(stream)
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: counts })
  expect(chunks.slice(0, -1).every((chunk) => chunk.choices.length === 1 && !chunk.usage)).toBe(true)
  const silent = await collect(await client.completions.create({ ...prompt, stream: true }))
  expect(silent.every((chunk) => chunk.choices.length === 1 && !chunk.usage)).toBe(true)
})

describe('reject with its name', () => {
  test.each([
    ['max_tokens', { max_tokens: 0 }],
    ['n', { echo: true, logprobs: 1, n: 2 }],
    ['suffix', { suffix: 'mat' }],
    ['best_of', { best_of: 3 }],
    ['stream_options', { stream_options: { include_usage: true } }],
  ])('%s', async (param, fields) => {
    const asking = client.completions.create({ ...prompt, ...fields })
    await expect(asking).rejects.toThrow(BadRequestError)
    await expect(asking).rejects.toMatchObject({
      status: 400,
      type: 'invalid_request_error',
      code: 'invalid_request',
      param,
      message: expect.stringContaining(`'${param}'`) as string,
    })
  })
})
