/** Each event of real streams against the served OpenAPI document, checked by another implementation of JSON Schema. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import { beforeAll, describe, expect, inject, test } from 'vitest'

const service = inject('service')

/** One server-sent event in the form of the document. */
interface StreamedEvent {
  event?: string
  data?: string
}

let ajv: Ajv2020

beforeAll(async () => {
  const document = await (await fetch(`${service.origin}/openapi.json`)).text()
  ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false })
  // Ajv treats contentSchema as an annotation and does not check it.
  ajv.removeKeyword('contentSchema')
  ajv.addKeyword({
    keyword: 'contentSchema',
    type: 'string',
    compile: (schema: object) => {
      const isAsTold = ajv.compile(schema)
      return (text: string) => isAsTold(jsonOf(text))
    },
  })
  ajv.addSchema(JSON.parse(document.replaceAll('"$ref":"#/', '"$ref":"openapi#/')) as object, 'openapi')
})

/** Parses JSON. Text that is not JSON becomes a value that no schema here allows. */
function jsonOf(text = ''): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Returns the events that do not match the document of a path. */
function misfits(path: string, events: readonly StreamedEvent[]): StreamedEvent[] {
  const operation = `/v1${path}`.replaceAll('/', '~1')
  const isAsTold = ajv.getSchema(
    `openapi#/paths/${operation}/post/responses/200/content/text~1event-stream/schema`,
  )
  if (!isAsTold) throw new Error(`the document tells nothing of the streams of ${path}`)
  return events.filter((event) => !isAsTold(event))
}

/** Returns the events of a stream, without comments. */
function eventsOf(text: string): StreamedEvent[] {
  return text.split('\n\n').flatMap((block) => {
    const fields = block.split('\n').flatMap((line) => {
      const [, name, value] = /^(\w+): (.*)$/.exec(line) ?? []
      return name === undefined ? [] : [[name, value] as const]
    })
    const event: StreamedEvent = Object.fromEntries(fields)
    return fields.length > 0 ? [event] : []
  })
}

async function open(path: string, body: object, key = service.apiKey): Promise<Response> {
  const response = await fetch(service.baseUrl + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: 'tiny', stream: true, ...body }),
  })
  if (response.status !== 200) throw new Error(await response.text())
  return response
}

async function stream(path: string, body: object): Promise<StreamedEvent[]> {
  return eventsOf(await (await open(path, body)).text())
}

const messages = [{ role: 'user', content: 'the cat sat on the mat' }]
// With a seed, so that no text ends early by accident.
const chat = { messages, max_tokens: 6, seed: 1 }
const prompt = { prompt: 'the cat', max_tokens: 6, seed: 1 }
const response = { input: 'the cat', max_output_tokens: 12 }
const withUsage = { stream_options: { include_usage: true } }
const parameters = {
  type: 'object',
  properties: { a: { type: 'boolean' } },
  required: ['a'],
  additionalProperties: false,
}

/** Takes seconds, so that the key can be revoked before it ends. */
const LONG = { max_tokens: 3500, n: 16, logit_bias: { 2: -100 } }

describe('each event matches the document', () => {
  test.each<[string, object]>([
    ['/chat/completions', chat],
    ['/chat/completions', { ...chat, ...withUsage, service_tier: 'auto' }],
    ['/chat/completions', { ...chat, n: 3, temperature: 1.5, logprobs: true, top_logprobs: 2 }],
    ['/completions', prompt],
    ['/completions', { ...prompt, ...withUsage, prompt: ['a', 'b'], n: 2, logprobs: 2 }],
    ['/responses', response],
  ])('of %s for %j', async (path, body) => {
    const events = await stream(path, body)
    expect(events.length).toBeGreaterThan(5)
    expect(misfits(path, events)).toEqual([])
    expect(misnamed(events)).toEqual([])
    expect(isWhole(events)).toBe(true)
  })

  test.skipIf(!service.keepsGrammars).each<[string, object]>([
    [
      '/chat/completions',
      {
        ...chat,
        max_tokens: 200,
        n: 2,
        tools: [{ type: 'function', function: { name: 'f', parameters } }],
        tool_choice: 'required',
        parallel_tool_calls: false,
      },
    ],
    [
      '/responses',
      {
        ...response,
        max_output_tokens: 200,
        tools: [{ type: 'function', name: 'f', parameters }],
        tool_choice: 'required',
        parallel_tool_calls: false,
      },
    ],
  ])('of %s that calls functions', async (path, body) => {
    const events = await stream(path, body)
    expect(misfits(path, events)).toEqual([])
    expect(misnamed(events)).toEqual([])
    expect(isWhole(events)).toBe(true)
    expect(
      events.filter(({ data }) => /"tool_calls":\[|"type":"function_call"/.test(data ?? '')),
    ).not.toEqual([])
  })

  test.each<[string, object]>([
    ['/chat/completions', { ...chat, ...LONG }],
    ['/completions', { ...prompt, ...LONG }],
  ])('of %s that an error ends', async (path, body) => {
    const [events = []] = await streamsOfLostKey(path, body, 1)
    expect(misfits(path, events)).toEqual([])
    expect(events.at(-1)?.data).toContain('"code":"invalid_api_key"')
    expect(events.map(({ data }) => data)).not.toContain('[DONE]')
  })

  // It has one choice, and its format keeps it from ending.
  test.skipIf(!service.keepsGrammars)('of /responses that an error ends', async () => {
    const schema = {
      type: 'object',
      properties: { a: { type: 'string', minLength: 3000 } },
      required: ['a'],
      additionalProperties: false,
    }
    const text = { format: { type: 'json_schema', name: 'a', schema } }
    const streams = await streamsOfLostKey('/responses', { ...response, max_output_tokens: 3500, text }, 8)
    for (const events of streams) {
      expect(misfits('/responses', events)).toEqual([])
      expect(misnamed(events)).toEqual([])
    }
    expect(streams.map((events) => events.at(-1)?.data)).toContainEqual(
      expect.stringContaining('"code":"invalid_api_key"'),
    )
  })
})

test('an event that does not match the document is found', async () => {
  for (const [path, body] of [
    ['/chat/completions', chat],
    ['/completions', prompt],
    ['/responses', response],
  ] as const) {
    const [event] = await stream(path, body)
    const value = JSON.parse(event?.data ?? '') as object
    const [name = ''] = Object.keys(value)
    const wrong = [
      JSON.stringify({ ...value, [name]: undefined }),
      JSON.stringify({ ...value, [name]: 1 }),
      JSON.stringify({ ...value, more: 1 }),
      '{"error":{"message":"x"}}',
      '[DONE',
    ].map((data) => ({ ...event, data }))
    expect(misfits(path, wrong)).toEqual(wrong)
    expect(misfits(path, [{}])).toHaveLength(1)
  }
  expect(misfits('/responses', [{ data: '[DONE]' }])).toHaveLength(1)
})

/** Whether the stream ends as OpenAI's do: with `[DONE]`, or with an event of the outcome. */
function isWhole(events: readonly StreamedEvent[]): boolean {
  const last = events.at(-1)
  return last?.data === '[DONE]' || /^response\.(completed|incomplete)$/.test(last?.event ?? '')
}

/** Returns the named events whose name is not the type of their data. */
function misnamed(events: readonly StreamedEvent[]): StreamedEvent[] {
  return events.filter(
    ({ event, data }) => event !== undefined && (jsonOf(data) as { type?: string }).type !== event,
  )
}

/** Opens this many streams at once, revokes their key, and returns their events. */
async function streamsOfLostKey(path: string, body: object, count: number): Promise<StreamedEvent[][]> {
  const { id, key } = await admin<{ id: string; key: string }>('POST', '/admin/keys', { name: 'lost' })
  const opened = await Promise.all(Array.from({ length: count }, () => open(path, body, key)))
  await admin('DELETE', `/admin/keys/${id}`)
  return Promise.all(opened.map(async (one) => eventsOf(await one.text())))
}

async function admin<T>(method: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(service.origin + path, {
    method,
    headers: { authorization: `Bearer ${service.adminKey}` },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  if (!answer.ok) throw new Error(await answer.text())
  return (await answer.json()) as T
}
