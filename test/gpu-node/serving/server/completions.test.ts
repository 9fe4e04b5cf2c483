import { expect, test } from 'vitest'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import { arithmeticNodes, CHAT, json, PROMPT } from '../../../support/doubles/arithmetic-node.ts'
import { call, readEvents } from '../../../support/processes/in-process-node.ts'

const nodes = arithmeticNodes()
const { start } = nodes
const isChunk = (event: unknown): event is ChatCompletionChunk =>
  typeof event === 'object' && event !== null && 'choices' in event

test("a chat response has OpenAI's shape and names its mask, node and domain", async () => {
  const { node } = await start()
  const response = await node.post('/rpc/chat-completions', call(CHAT, { requestId: 'request-abc' }))
  expect(response.status).toBe(200)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'application/json',
    'x-copal-mask': '7',
    'x-copal-node': 'node-under-test',
    'x-copal-domain': 'legal',
  })
  const body = await json<ChatCompletion>(response)
  expect(body).toEqual({
    id: 'chatcmpl-request-abc',
    object: 'chat.completion',
    created: expect.any(Number),
    model: 'tiny',
    system_fingerprint: 'copal-tiny-m7',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: expect.any(String), refusal: null },
        logprobs: null,
        finish_reason: expect.stringMatching(/^(stop|length)$/),
      },
    ],
    usage: {
      prompt_tokens: expect.any(Number),
      completion_tokens: 24,
      total_tokens: expect.any(Number),
      prompt_tokens_details: { cached_tokens: 0 },
    },
  })
  const rendered = nodes.model().codec.encode(nodes.model().codec.renderChat(CHAT.messages))
  expect(body.usage.prompt_tokens).toBe(rendered.length)
  expect(Math.abs(body.created - Date.now() / 1000)).toBeLessThan(60)
})

test('messages without text are accepted, as OpenAI accepts them', async () => {
  const { node } = await start()
  const messages = [
    { role: 'system', content: '' },
    { role: 'user', content: [{ type: 'text', text: '' }] },
  ]
  const body = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ ...CHAT, messages }, { sample: true })),
  )
  expect(body.choices).toHaveLength(1)
  expect(body.usage.prompt_tokens).toBeGreaterThan(0)
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'length', drift: null }])
})

test('a streamed chat sends the role, the same text, a reason, the requested usage, and [DONE]', async () => {
  const { node } = await start()
  const whole = await json<ChatCompletion>(await node.post('/rpc/chat-completions', call(CHAT)))
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...CHAT, stream: true, stream_options: { include_usage: true } }),
  )
  expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
  expect(response.headers.get('x-copal-mask')).toBe('7')
  const events = await readEvents(response)
  expect(events.at(-1)).toBe('[DONE]')
  const chunks = events.filter(isChunk)
  expect(chunks).toHaveLength(events.length - 1)
  expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' })
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
    whole.choices[0]?.message.content,
  )
  expect(chunks.at(-2)?.choices[0]).toMatchObject({
    delta: {},
    finish_reason: whole.choices[0]?.finish_reason,
  })
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
  expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.system_fingerprint} ${chunk.object}`)).size).toBe(
    1,
  )
})

test('a stream without include_usage has no usage field', async () => {
  const { node } = await start()
  const events = await readEvents(await node.post('/rpc/chat-completions', call({ ...CHAT, stream: true })))
  expect(events.filter(isChunk).every((chunk) => !('usage' in chunk) && chunk.choices.length === 1)).toBe(
    true,
  )
})

test('a completion has the same text streamed and in one piece, 16 tokens by default', async () => {
  const { node } = await start()
  const { max_tokens: _, ...request } = PROMPT
  const whole = await json<Completion>(await node.post('/rpc/completions', call(request)))
  expect(whole).toMatchObject({
    object: 'text_completion',
    usage: { completion_tokens: 16 },
    choices: [{ logprobs: null }],
  })
  const events = await readEvents(await node.post('/rpc/completions', call({ ...request, stream: true })))
  const texts = events.slice(0, -1).map((event) => (event as Completion).choices[0]?.text)
  expect(texts.join('')).toBe(whole.choices[0]?.text)
  expect((events.at(-2) as Completion).choices[0]?.finish_reason).toBe('length')
})

test('a prompt of token ids gives the same output as its text', async () => {
  const { node } = await start()
  const text = await json<Completion>(await node.post('/rpc/completions', call(PROMPT)))
  const ids = nodes.model().codec.encode(PROMPT.prompt)
  const tokens = await json<Completion>(await node.post('/rpc/completions', call({ ...PROMPT, prompt: ids })))
  expect(tokens.choices).toEqual(text.choices)
})

test('the same seed gives the same text, another seed another text, and no seed a new text each time', async () => {
  const { node } = await start()
  const text = async (seed: number | undefined) => {
    const { seed: _, ...rest } = PROMPT
    const body = await json<Completion>(
      await node.post('/rpc/completions', call(seed === undefined ? rest : { ...rest, seed })),
    )
    return body.choices[0]?.text
  }
  expect(await text(5)).toBe(await text(5))
  expect(await text(5)).not.toBe(await text(6))
  expect(await text(5)).not.toBe(await text(5 + 2 ** 32))
  expect(await text(undefined)).not.toBe(await text(undefined))
})

test('log-probabilities have the shape of each API', async () => {
  const { node } = await start()
  const chat = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ ...CHAT, logprobs: true, top_logprobs: 2 })),
  )
  const content = chat.choices[0]?.logprobs?.content ?? []
  expect(content).toHaveLength(24)
  expect(Buffer.concat(content.map((token) => Buffer.from(token.bytes))).toString()).toContain(
    chat.choices[0]?.message.content?.slice(0, 3),
  )
  const completion = await json<Completion>(
    await node.post('/rpc/completions', call({ ...PROMPT, logprobs: 0 })),
  )
  const logprobs = completion.choices[0]?.logprobs
  expect(logprobs?.tokens).toHaveLength(24)
  expect(logprobs?.token_logprobs.every((value) => value === -0.5)).toBe(true)
  expect(logprobs?.text_offset[0]).toBe(0)
  expect(logprobs?.text_offset).toEqual(logprobs?.text_offset.toSorted((a, b) => a - b))
})

test('a stop string ends a response and a stream at the same place', async () => {
  const { node } = await start()
  const full =
    (await json<Completion>(await node.post('/rpc/completions', call(PROMPT)))).choices[0]?.text ?? ''
  const stop = Array.from(full).slice(8, 11).join('')
  const cut = await json<Completion>(await node.post('/rpc/completions', call({ ...PROMPT, stop })))
  expect(cut.choices[0]).toMatchObject({ text: full.slice(0, full.indexOf(stop)), finish_reason: 'stop' })
  const events = await readEvents(
    await node.post('/rpc/completions', call({ ...PROMPT, stop: ['never', stop], stream: true })),
  )
  expect(
    events
      .slice(0, -1)
      .map((event) => (event as Completion).choices[0]?.text)
      .join(''),
  ).toBe(cut.choices[0]?.text)
})
