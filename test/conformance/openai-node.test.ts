import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from 'openai'
import { describe, expect, inject, test } from 'vitest'
import { collect } from '../support/harness/collect.ts'
import { until } from '../support/processes/service.ts'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'

const service = inject('service')
const client = new OpenAI({ baseURL: service.baseUrl, apiKey: service.apiKey, maxRetries: 0 })
const MODEL = 'tiny'
const messages = [
  { role: 'system' as const, content: 'be brief' },
  { role: 'user' as const, content: 'the cat sat on the mat' },
]
/** Greedy, so that two requests can be compared. */
const chat = { model: MODEL, messages, temperature: 0, max_completion_tokens: 12 }
/** Long enough that it is not finished before its client disconnects. */
const neverEnds = { max_completion_tokens: 2000, logit_bias: { '2': -100 } }
/** Many times longer, for events that must happen during the generation. */
const neverEndsByFar = { ...neverEnds, max_completion_tokens: 3500, n: 16 }
/** Allows only the letters from A to H. The tokens of bytes follow three special ones. */
const onlyLetters = Object.fromEntries(Array.from('ABCDEFGH', (letter) => [3 + letter.charCodeAt(0), 100]))

async function createKey(fields: object): Promise<OpenAI> {
  const response = await fetch(`${service.origin}/admin/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.adminKey}` },
    body: JSON.stringify({ name: 'conformance', ...fields }),
  })
  if (!response.ok) throw new Error(await response.text())
  const { key } = (await response.json()) as CreatedKey
  return client.withOptions({ apiKey: key })
}

/** Sums a counter at `/metrics` over the lines with all of these labels. */
async function counted(name: string, labels: Record<string, string>): Promise<number> {
  const response = await fetch(`${service.origin}/metrics`, {
    headers: { authorization: `Bearer ${service.adminKey}` },
  })
  if (!response.ok) throw new Error(await response.text())
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  return (await response.text())
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

/** Returns the error of a call that must fail. */
async function thrownBy(call: PromiseLike<unknown>): Promise<unknown> {
  try {
    await call
  } catch (error) {
    return error
  }
  throw new Error('the call did not fail')
}

describe('chat completions', () => {
  test('return a message, usage, a fingerprint and headers with the mask and the request', async () => {
    const { data, response, request_id } = await client.chat.completions.create(chat).withResponse()
    expect(data).toMatchObject({
      object: 'chat.completion',
      model: MODEL,
      system_fingerprint: 'copal-tiny-m0',
      choices: [{ index: 0, message: { role: 'assistant' } }],
    })
    expect(data.usage?.total_tokens).toBe(data.usage!.prompt_tokens + data.usage!.completion_tokens)
    expect(response.headers.get('x-copal-mask')).toBe('0')
    expect(request_id).toMatch(/^req_/)
  })

  test('stream the same text, with the role first and the finish reason and usage last', async () => {
    const whole = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 })
    const stream = await client.chat.completions.create({
      ...chat,
      logprobs: true,
      top_logprobs: 2,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = await collect(stream)
    expect(chunks[0]?.choices[0]?.delta.role).toBe('assistant')
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      whole.choices[0]?.message.content,
    )
    const told = chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? [])
    expect(told.map(({ token }) => token)).toEqual(
      whole.choices[0]?.logprobs?.content?.map(({ token }) => token),
    )
    expect(told.every(({ top_logprobs }) => top_logprobs.length === 2)).toBe(true)
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason)
    const { prompt_tokens_details: _, ...usage } = whole.usage!
    const last = chunks.at(-1)
    expect(last).toMatchObject({ choices: [], usage })
    // The second time the prefix of the prompt may be cached.
    expect(last?.usage?.prompt_tokens_details?.cached_tokens).toBeLessThan(usage.prompt_tokens)
  })

  test('have the requested number of choices, each streamed with its index, and count the prompt once', async () => {
    const several = { ...chat, temperature: 1.5, seed: 7, n: 3 }
    const whole = await client.chat.completions.create(several)
    expect(whole.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    expect(new Set(whole.choices.map(({ message }) => message.content)).size).toBe(3)
    const one = await client.chat.completions.create({ ...several, n: 1 })
    expect(one.choices[0]).toEqual(whole.choices[0])
    expect(whole.usage?.prompt_tokens).toBe(one.usage?.prompt_tokens)
    const texts = ['', '', '']
    for await (const chunk of await client.chat.completions.create({ ...several, stream: true }))
      for (const { index, delta } of chunk.choices) texts[index] += delta.content ?? ''
    expect(texts).toEqual(whole.choices.map(({ message }) => message.content))
  })

  test('end at a stop sequence, which is not part of the text', async () => {
    const { choices } = await client.chat.completions.create({ ...chat, max_completion_tokens: 40 })
    const text = choices[0]?.message.content ?? ''
    const stop = text.slice(6, 8)
    const cut = await client.chat.completions.create({ ...chat, max_completion_tokens: 40, stop })
    expect(cut.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: text.slice(0, text.indexOf(stop)) },
    })
  })

  test('follow biases: a forced token is the only one, a forbidden one never occurs', async () => {
    const { choices } = await client.chat.completions.create({
      ...chat,
      logit_bias: { '70': 100 },
      logprobs: true,
    })
    const tokens = choices[0]?.logprobs?.content?.map(({ token }) => token) ?? []
    expect([tokens.length, new Set(tokens).size]).toEqual([12, 1])
    const without = await client.chat.completions.create({
      ...chat,
      logit_bias: { '70': -100 },
      logprobs: true,
    })
    expect(without.choices[0]?.logprobs?.content?.map(({ token }) => token)).not.toContain(tokens[0])
  })

  test('repeat less with a frequency or presence penalty, and more with a negative one', async () => {
    const letters = async (penalty: object) => {
      const asked = { ...chat, ...penalty, logit_bias: onlyLetters, max_completion_tokens: 40 }
      const { choices } = await client.chat.completions.create(asked)
      return new Set(choices[0]?.message.content).size
    }
    const without = await letters({})
    for (const penalty of ['frequency_penalty', 'presence_penalty']) {
      expect(await letters({ [penalty]: 2 })).toBeGreaterThan(without)
      expect(await letters({ [penalty]: -2 })).toBeLessThan(without)
    }
  })

  test('accept every parameter that does not affect the text', async () => {
    const { choices, service_tier } = await client.chat.completions.create({
      ...chat,
      user: 'someone',
      safety_identifier: 'someone',
      prompt_cache_key: 'x',
      metadata: { team: 'x' },
      store: false,
      service_tier: 'auto',
      modalities: ['text'],
    })
    expect(choices).toHaveLength(1)
    expect(service_tier).toBe('default')
  })

  test('stop in the client and on the node when the client aborts its stream', async () => {
    const abort = new AbortController()
    // A domain of its own identifies the request in the metrics.
    const options = { signal: abort.signal, headers: { 'x-copal-domain': 'left' } }
    let chunks = 0
    const body = { ...chat, ...neverEndsByFar, stream: true as const }
    for await (const _ of await client.chat.completions.create(body, options))
      if (++chunks === 2) abort.abort()
    expect(chunks).toBeLessThan(1000)
    const labels = { model: MODEL, domain: 'left', outcome: 'cancelled' }
    await expect.poll(() => counted('copal_requests_total', labels)).toBe(1)
    const waiting = client.chat.completions.create(chat, { signal: AbortSignal.abort() })
    expect(await thrownBy(waiting)).toBeInstanceOf(APIUserAbortError)
  })
})

describe('responses', () => {
  const ask = { model: MODEL, instructions: 'be brief', input: 'the cat sat on the mat', temperature: 0 }

  test('have the text of the same chat', async () => {
    const response = await client.responses.create({ ...ask, max_output_tokens: 12 })
    const { choices, usage } = await client.chat.completions.create(chat)
    expect(response.output_text).toBe(choices[0]?.message.content)
    expect(response.usage?.input_tokens).toBe(usage?.prompt_tokens)
    expect(['completed', 'incomplete']).toContain(response.status)
  })

  test('stream events that the client accumulates to the same response', async () => {
    const whole = await client.responses.create({ ...ask, max_output_tokens: 12 })
    const stream = client.responses.stream({ ...ask, max_output_tokens: 12 })
    const types = new Set<string>()
    let text = ''
    for await (const event of stream) {
      types.add(event.type)
      if (event.type === 'response.output_text.delta') text += event.delta
    }
    expect([...types].slice(0, 5)).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
    ])
    expect(text).toBe(whole.output_text)
    expect((await stream.finalResponse()).output_text).toBe(text)
  })

  test('can be sent back as input of the next', async () => {
    const first = await client.responses.create({ ...ask, max_output_tokens: 5 })
    const next = await client.responses.create({
      model: MODEL,
      input: [
        { role: 'user', content: ask.input },
        ...first.output.filter((item) => item.type === 'message'),
        { role: 'user', content: 'and then' },
      ],
      max_output_tokens: 5,
    })
    expect(next.usage!.input_tokens).toBeGreaterThan(first.usage!.input_tokens)
  })

  test('reject previous_response_id with its field', async () => {
    const error = await thrownBy(client.responses.create({ ...ask, previous_response_id: 'resp_1' }))
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error).toMatchObject({ status: 400, param: 'previous_response_id', code: 'invalid_request' })
  })
})

describe('embeddings', () => {
  test('have length 1, are equal as numbers and as base64, and keep the order of the texts', async () => {
    const input = ['the cat sat', 'on the mat', 'the cat sat']
    const packed = await client.embeddings.create({ model: MODEL, input })
    const plain = await client.embeddings.create({ model: MODEL, input, encoding_format: 'float' })
    expect(packed.data.map(({ embedding }) => embedding)).toEqual(
      plain.data.map(({ embedding }) => embedding),
    )
    const [first, second, third] = plain.data.map(({ embedding }) => embedding)
    expect(Math.hypot(...first!)).toBeCloseTo(1, 4)
    expect(third).toEqual(first)
    expect(second).not.toEqual(first)
    expect(plain.usage.total_tokens).toBe(plain.usage.prompt_tokens)
  })
})

describe('models', () => {
  test('are listed with their weights, each of which serves under its name', async () => {
    const ids = (await collect(client.models.list())).map(({ id }) => id)
    expect(ids).toEqual(['tiny', 'tiny@dense'])
    expect(await client.models.retrieve('tiny@dense')).toMatchObject({ id: 'tiny@dense', object: 'model' })
    const dense = await client.chat.completions.create({ ...chat, model: 'tiny@dense' })
    expect(dense.system_fingerprint).toBe('copal-tiny-m0')
    const gone = await thrownBy(client.chat.completions.create({ ...chat, model: 'tiny@mask-12' }))
    expect(gone).toBeInstanceOf(NotFoundError)
    expect(gone).toMatchObject({ param: 'model', message: expect.stringContaining("'tiny@dense'") as string })
  })
})

describe('errors', () => {
  test('are thrown with their class, code and field', async () => {
    const unauthorised = client.withOptions({ apiKey: 'sk-copal-wrong' })
    expect(await thrownBy(unauthorised.models.list())).toBeInstanceOf(AuthenticationError)
    expect(await thrownBy(client.models.retrieve('gpt-9'))).toBeInstanceOf(NotFoundError)
    const wrong = await thrownBy(client.chat.completions.create({ ...chat, n: 99 }))
    expect(wrong).toBeInstanceOf(BadRequestError)
    expect(wrong).toMatchObject({ param: 'n', type: 'invalid_request_error', code: 'invalid_request' })
    const long = await thrownBy(
      client.chat.completions.create({
        ...chat,
        messages: [{ role: 'user', content: 'word '.repeat(2_000) }],
      }),
    )
    expect(long).toMatchObject({ code: 'context_length_exceeded', status: 400 })
    const elsewhere = await createKey({ allowed_models: ['another'] })
    expect(await thrownBy(elsewhere.chat.completions.create(chat))).toBeInstanceOf(PermissionDeniedError)
  })

  test('of limits have the remaining requests and Retry-After', async () => {
    const limited = await createKey({ limits: { requests_per_minute: 1 } })
    await limited.chat.completions.create(chat)
    const refused = await thrownBy(limited.chat.completions.create(chat))
    expect(refused).toBeInstanceOf(RateLimitError)
    const { headers } = refused as RateLimitError
    expect(Number(headers?.get('retry-after'))).toBeGreaterThan(0)
    expect(headers?.get('x-ratelimit-remaining-requests')).toBe('0')
  })

  test('of limits make the client wait for Retry-After and retry', async () => {
    const limited = await createKey({ limits: { concurrent_requests: 1 } })
    const holder = await limited.chat.completions.create({ ...chat, ...neverEndsByFar, stream: true })
    const refused = await thrownBy(limited.chat.completions.create(chat))
    expect(refused).toBeInstanceOf(RateLimitError)
    expect((refused as RateLimitError).headers?.get('retry-after')).toBe('2')
    const attempts: { status: number; begunMs: number; endedMs: number }[] = []
    const patient = limited.withOptions({
      // Many: the place of the holder may be free only after some of them.
      maxRetries: 100,
      fetch: async (url, init) => {
        const begunMs = performance.now()
        const response = await fetch(url, init)
        attempts.push({ status: response.status, begunMs, endedMs: performance.now() })
        holder.controller.abort()
        return response
      },
    })
    expect((await patient.chat.completions.create(chat)).choices).toHaveLength(1)
    const [first, second] = attempts
    expect(first?.status).toBe(429)
    // Without Retry-After the client makes its second attempt within a second.
    expect((second?.begunMs ?? 0) - (first?.endedMs ?? 0)).toBeGreaterThan(1_990)
  })

  test('of invalid requests are never server errors', async () => {
    for (const body of [{}, { model: MODEL }, { ...chat, messages: 'x' }, { ...chat, temperature: {} }]) {
      const error = await thrownBy(client.post('/chat/completions', { body }))
      expect(error).not.toBeInstanceOf(InternalServerError)
      expect(error).toBeInstanceOf(BadRequestError)
    }
  })
})

describe('the response cache', () => {
  const headers = { 'x-copal-cache': 'true' }
  const asked = (content: string) => ({ ...chat, messages: [{ role: 'user' as const, content }] })

  test('returns the same response again, streamed and not streamed, with a hit header', async () => {
    const body = asked('what is kept of the cat')
    const whole = async () => {
      const { data, response } = await client.chat.completions.create(body, { headers }).withResponse()
      return { data, cache: response.headers.get('x-copal-cache') }
    }
    const streamed = async () => {
      const { data, response } = await client.chat.completions
        .create({ ...body, stream: true, stream_options: { include_usage: true } }, { headers })
        .withResponse()
      return { data: await collect(data), cache: response.headers.get('x-copal-cache') }
    }
    const asksAgain = async (ask: () => Promise<{ data: object; cache: string | null }>) => {
      const missed: object[] = []
      const hit = await until('a hit', async () => {
        const { data, cache } = await ask()
        if (cache === 'hit') return data
        expect(cache).toBe('miss')
        missed.push(data)
        return undefined
      })
      expect(missed).toContainEqual(hit)
    }
    await asksAgain(whole)
    await asksAgain(streamed)
  })

  test('does not cache a stream that its client aborted', async () => {
    // Small enough to be cached, and too large to be finished before the abort, unless the client is starved.
    const bodyOf = (attempt: number) => ({
      ...asked(`what is left of cat ${attempt}`),
      ...neverEnds,
      max_completion_tokens: 3500,
      stream: true as const,
    })
    const open = async (attempt: number, read: (stream: AsyncIterable<object>) => Promise<unknown>) => {
      const created = client.chat.completions.create(bodyOf(attempt), { headers })
      const { data, response } = await created.withResponse()
      await read(data)
      return response.headers.get('x-copal-cache')
    }
    const leave = async (stream: AsyncIterable<object>) => {
      for await (const _ of stream) break
    }
    const isLeftUncached = async (attempt: number) => {
      for (const read of [leave, leave, collect]) if ((await open(attempt, read)) !== 'miss') return false
      return true
    }
    let attempt = 0
    while (!(await isLeftUncached(attempt))) expect((attempt += 1)).toBeLessThan(4)
    await expect.poll(() => open(attempt, collect)).toBe('hit')
  })
})
