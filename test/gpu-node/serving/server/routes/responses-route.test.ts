import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { ChatCompletion } from '@copal/shared/wire/chat.ts'
import { responseEvent, type ResponseEvent, type ResponseObject } from '@copal/shared/wire/response-object.ts'
import { arithmeticNodes } from '../../../../support/doubles/arithmetic-node.ts'
import { call } from '../../../../support/processes/in-process-node.ts'

const nodes = arithmeticNodes()

const ASK = {
  model: 'tiny',
  instructions: 'be brief',
  input: 'the cat sat on the mat',
  max_output_tokens: 20,
  seed: 1,
}
/** Returns the text of a response that consists of one message. */
function textOf({ output }: ResponseObject): string {
  const [item] = output
  if (item?.type !== 'message') throw new Error('the response is no message')
  return item.content.map(({ text }) => text).join('')
}
const json = async <T>(response: Response) => (await response.json()) as T

/** Parses the events of a stream; fails when one does not follow the API reference, or its name is not its type. */
async function eventsOf(response: Response): Promise<ResponseEvent[]> {
  const blocks = (await response.text()).split('\n\n').filter((block) => block !== '')
  return blocks.map((block) => {
    const [, name, data] = /^event: (\S+)\ndata: (.*)$/.exec(block) ?? []
    const event = JSON.parse(data ?? '{}') as ResponseEvent
    if (event.type !== name) throw new Error(`not an event: ${block}`)
    expect(responseEvent.parse(event)).toEqual(event)
    return event
  })
}

test('a response is a message with the text that a chat of the same conversation gives', async () => {
  const { node } = await nodes.start()
  const response = await node.post('/rpc/responses', call(ASK, { requestId: 'request-abc' }))
  expect(response.headers.get('x-copal-mask')).toBe('7')
  const body = await json<ResponseObject>(response)
  const messages = [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: [{ type: 'text', text: ASK.input }] },
  ]
  const chat = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ model: 'tiny', messages, max_tokens: 20, seed: 1 })),
  )
  const text = chat.choices[0]?.message.content
  expect(body).toMatchObject({
    id: 'resp_request-abc',
    object: 'response',
    model: 'tiny',
    store: false,
    instructions: 'be brief',
    max_output_tokens: 20,
    temperature: 1,
    system_fingerprint: 'copal-tiny-m7',
    output: [
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text, annotations: [] }] },
    ],
    usage: {
      input_tokens: chat.usage.prompt_tokens,
      output_tokens: 20,
      total_tokens: chat.usage.total_tokens,
    },
  })
})

test('a truncated response is incomplete and gives the reason', async () => {
  const { node } = await nodes.start()
  const cut = await json<ResponseObject>(await node.post('/rpc/responses', call(ASK)))
  expect(cut).toMatchObject({
    status: 'incomplete',
    incomplete_details: { reason: 'max_output_tokens' },
    output: [{ status: 'incomplete' }],
  })
  expect(textOf(cut).length).toBeGreaterThan(0)
})

test('items of a conversation become messages, earlier outputs included', async () => {
  const { node } = await nodes.start()
  const first = await json<ResponseObject>(await node.post('/rpc/responses', call(ASK)))
  const input = [
    { role: 'user', content: ASK.input },
    ...first.output,
    { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'and then' }] },
  ]
  const second = await json<ResponseObject>(await node.post('/rpc/responses', call({ ...ASK, input })))
  const rendered = nodes.model().codec.renderChat([
    { role: 'system', content: 'be brief' },
    { role: 'user', content: ASK.input },
    { role: 'assistant', content: textOf(first) },
    { role: 'user', content: 'and then' },
  ])
  expect(second.usage?.input_tokens).toBe(nodes.model().codec.encode(rendered).length)
})

test('a stream sends numbered events for the response, its item and part, the text, and their ends', async () => {
  const { node } = await nodes.start()
  const whole = await json<ResponseObject>(await node.post('/rpc/responses', call(ASK)))
  const events = await eventsOf(await node.post('/rpc/responses', call({ ...ASK, stream: true })))
  expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, index) => index))
  const types = events.map(({ type }) => type)
  const deltas = types.filter((type) => type === 'response.output_text.delta')
  expect(deltas.length).toBeGreaterThan(2)
  expect(types).toEqual([
    'response.created',
    'response.in_progress',
    'response.output_item.added',
    'response.content_part.added',
    ...deltas,
    'response.output_text.done',
    'response.content_part.done',
    'response.output_item.done',
    'response.incomplete',
  ])
  const text = textOf(whole)
  const told = events.flatMap((event) => (event.type === 'response.output_text.delta' ? [event.delta] : []))
  expect(told.join('')).toBe(text)
  expect(events.at(-4)).toMatchObject({ text })
  const last = events.at(-1)
  if (last?.type !== 'response.incomplete') throw new Error('unreachable')
  const { id, created_at: created, output, ...rest } = last.response
  expect(rest).toEqual({
    ...whole,
    id: undefined,
    created_at: undefined,
    output: undefined,
  })
  expect(events[0]).toMatchObject({
    response: { id, created_at: created, status: 'in_progress', output: [] },
  })
  const item = events.find((event) => event.type === 'response.output_item.done')
  expect(item).toMatchObject({ item: output[0] })
})

test('a stream that breaks ends with an error event with the next sequence number', async () => {
  const { node, backend, active } = await nodes.start({ arithmetic: { onStep: () => sleep(2) } })
  const response = await node.post('/rpc/responses', call({ ...ASK, max_output_tokens: 200, stream: true }))
  const reading = eventsOf(response)
  await sleep(30)
  backend.kill(active)
  const events = await reading
  expect(events.at(-1)).toMatchObject({
    type: 'error',
    code: 'node_failed',
    param: null,
    // OpenAI's Python client throws on this field.
    error: { type: 'server_error', code: 'node_failed', param: null },
    sequence_number: events.length - 1,
  })
})
