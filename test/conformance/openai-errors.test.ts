/**
 * Errors and named weights as OpenAI's clients see them: the real gateway and nodes with the tiny model, with limits low
 * enough to be reached.
 */
import { join } from 'node:path'
import OpenAI, { APIError, InternalServerError, NotFoundError, RateLimitError } from 'openai'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import { collect } from '../support/harness/collect.ts'
import { startFleet, type FleetNode, type TestFleet } from '../support/processes/fleet.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'
import { until } from '../support/processes/service.ts'

const MODEL = 'tiny'
const chat = {
  model: MODEL,
  messages: [{ role: 'user' as const, content: 'the cat sat on the mat' }],
  temperature: 0,
  max_completion_tokens: 8,
}
/** The tiny model's text at temperature 0 never ends by itself. */
const endless = { ...chat, max_completion_tokens: 12_000 }
/** Requests that the node accepts: twice the number that it runs at once. */
const ROOM = 16

let fleet: TestFleet
let node: FleetNode
let key: string
let client: OpenAI
let clientForPython: PythonPackage
/** The model name with the mask, once a mask is imported. */
let masked: string

beforeAll(async () => {
  // Installed first, because it may take long.
  clientForPython = await pythonPackage('openai', '3.57.0')
  fleet = await startFleet({
    variables: { COPAL_QUEUE_TIMEOUT_MS: '0', COPAL_NODE_WAIT_MS: '1000' },
  })
  node = await fleet.start('node-a')
  await serving()
  key = (await fleet.key()).key
  client = new OpenAI({ baseURL: `${fleet.url}/v1`, apiKey: key, maxRetries: 0 })
})
afterAll(() => fleet?.stop())

test('a body that is too large is a 413 that the client does not retry', async () => {
  const messages = [{ role: 'user' as const, content: 'x'.repeat(1024 * 1024) }]
  const { error, calls } = await refusal((counting) =>
    counting.chat.completions.create({ ...chat, messages }),
  )
  expect(error).toBeInstanceOf(APIError)
  expect(error).toMatchObject({
    status: 413,
    type: 'invalid_request_error',
    code: 'body_too_large',
    param: null,
  })
  expect(error.message).toContain('1 MiB')
  expect(calls).toBe(1)
})

test('a used-up budget is an insufficient_quota error that the client does not retry', async () => {
  const { key: spent } = await fleet.key({ tokens_per_month: 300 })
  const asked = { ...chat, max_completion_tokens: 500 }
  const { error, calls } = await refusal((counting) => counting.chat.completions.create(asked), spent)
  expect(error).toBeInstanceOf(RateLimitError)
  expect(error).toMatchObject({
    status: 429,
    type: 'insufficient_quota',
    code: 'insufficient_quota',
    param: null,
  })
  expect(calls).toBe(1)
})

test('full nodes are a 429 with Retry-After', async () => {
  const left = new AbortController()
  const held = Array.from({ length: ROOM }, () =>
    client.chat.completions.create({ ...endless, stream: true }, { signal: left.signal }),
  )
  const leases = async () => sumMetric(await fleet.admin<string>('GET', '/metrics'), 'copal_node_leases')
  await expect.poll(leases).toBe(ROOM)
  // Its streams end only when the test is over.
  node.process.child.kill('SIGSTOP')
  onTestFinished(() => void node.process.child.kill('SIGCONT'))
  const { error, calls } = await refusal((counting) => counting.chat.completions.create(chat), undefined, 0)
  expect(error).toBeInstanceOf(RateLimitError)
  expect(error).toMatchObject({ status: 429, type: 'rate_limit_error', code: 'overloaded', param: null })
  expect(Number(error.headers?.get('retry-after'))).toBeGreaterThan(0)
  expect(calls).toBe(1)
  expect(await inPython({ full_nodes_are_told: null })).toEqual(['full_nodes_are_told'])
  node.process.child.kill('SIGCONT')
  left.abort()
  await Promise.allSettled(held)
  await fleet.settled()
})

test('without a node that takes requests the error is a 503 with Retry-After', async () => {
  await fleet.admin('PUT', `/admin/nodes/${node.id}/drain`)
  onTestFinished(async () => {
    await fleet.admin('DELETE', `/admin/nodes/${node.id}/drain`)
    await serving()
  })
  const { error } = await refusal((counting) => counting.chat.completions.create(chat), undefined, 0)
  expect(error).toBeInstanceOf(InternalServerError)
  expect(error).toMatchObject({ status: 503, type: 'server_error', code: 'no_node_available', param: null })
  expect(Number(error.headers?.get('retry-after'))).toBeGreaterThan(0)
  expect(await inPython({ no_node_is_told: null })).toEqual(['no_node_is_told'])
})

test.each(['gpt-9', 'tiny@mask-9'])('%s is a 404 that the client does not retry', async (model) => {
  for (const ask of [
    (counting: OpenAI) => counting.chat.completions.create({ ...chat, model }),
    (counting: OpenAI) => counting.responses.create({ model, input: 'x' }),
  ]) {
    const { error, calls } = await refusal(ask)
    expect(error).toBeInstanceOf(NotFoundError)
    expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
    expect(calls).toBe(1)
  }
})

test('weights can be requested by name, and each response names its weights', async () => {
  const before = (await collect(client.models.list())).map(({ id }) => id)
  expect(before).toEqual([MODEL, `${MODEL}@dense`])
  const { version } = await fleet.importMask(randomHalfMask(fleet.model, 1).bytes, true)
  masked = `${MODEL}@mask-${version}`
  const ids = async () => (await collect(client.models.list())).map(({ id }) => id).toSorted()
  await expect.poll(ids).toEqual([MODEL, `${MODEL}@dense`, masked].toSorted())
  const fingerprints = { dense: `copal-${MODEL}-m0`, masked: `copal-${MODEL}-m${version}` }
  await expect
    .poll(async () => (await client.chat.completions.create(chat)).system_fingerprint)
    .toBe(fingerprints.masked)
  const said = async (model: string) => {
    const answer = await client.chat.completions.create({ ...chat, model })
    const chunks = await collect(await client.chat.completions.create({ ...chat, model, stream: true }))
    const response = await client.responses.create({ model, input: 'x', max_output_tokens: 2 })
    const embedded = await client.embeddings.create({ model, input: 'x' })
    return {
      answer: answer.model,
      chunks: [...new Set(chunks.map((chunk) => chunk.model))],
      response: response.model,
      embedded: embedded.model,
      made: answer.system_fingerprint,
    }
  }
  for (const [model, made] of [
    [MODEL, fingerprints.masked],
    [masked, fingerprints.masked],
    [`${MODEL}@dense`, fingerprints.dense],
  ] as const) {
    expect(await client.models.retrieve(model)).toMatchObject({ id: model, object: 'model' })
    expect(await said(model)).toEqual({
      answer: MODEL,
      chunks: [MODEL],
      response: MODEL,
      embedded: MODEL,
      made,
    })
  }
})

test('a chat stream throws the error when its node dies, after the chunks before it', async () => {
  const stream = await client.chat.completions.create({ ...endless, stream: true })
  const pieces: unknown[] = []
  const error = await thrownBy(async () => {
    for await (const { choices } of stream) {
      pieces.push(choices[0]?.delta.content)
      if (pieces.length === 3) await node.process.end('SIGKILL')
    }
  })
  expect(pieces.length).toBeGreaterThan(2)
  expect(error).toMatchObject({ status: undefined, type: 'server_error', code: 'node_failed', param: null })
  await restart()
})

test('a response stream throws the error when its node dies, after the events before it', async () => {
  const stream = await client.responses.create({
    model: MODEL,
    input: 'the cat sat on the mat',
    temperature: 0,
    max_output_tokens: 12_000,
    stream: true,
  })
  const types: string[] = []
  const error = await thrownBy(async () => {
    for await (const { type } of stream) {
      types.push(type)
      if (types.length === 6) await node.process.end('SIGKILL')
    }
  })
  expect(types.slice(0, 2)).toEqual(['response.created', 'response.in_progress'])
  expect(types.some((type) => /completed|incomplete/.test(type))).toBe(false)
  expect(error).toMatchObject({ status: undefined, type: 'server_error', code: 'node_failed', param: null })
  await restart()
})

test('the Python client sees the same errors', async () => {
  const other = await fleet.start('node-b')
  await serving(other)
  const { key: spent } = await fleet.key({ tokens_per_month: 300 })
  const pids = { [node.id]: node.process.pid, [other.id]: other.process.pid }
  const checks = {
    refusals_have_their_class_and_code: spent,
    weights_answer_under_their_names: masked,
    a_chat_whose_node_dies_throws: pids,
    a_response_whose_node_dies_throws: pids,
  }
  expect(await inPython(checks)).toEqual(Object.keys(checks))
})

/** Runs checks with the Python client, each with its argument. Returns the names of those that passed. */
async function inPython(checks: Record<string, unknown>): Promise<string[]> {
  const script = join(import.meta.dirname, 'openai_python_errors.py')
  const made = await clientForPython.run([script, `${fleet.url}/v1`, key, JSON.stringify(checks)])
  if (made.stderr) process.stderr.write(made.stderr)
  return made.stdout
    .trim()
    .split('\n')
    .map((line) => line.replace(/^ok /, ''))
}

/** Waits until a node takes requests with the desired weights. */
async function serving({ id } = node): Promise<void> {
  const serves = async () => {
    const { nodes, models } = await fleet.admin<StatusReport>('GET', '/admin/status')
    const isAlive = nodes.some((one) => one.id === id && one.alive)
    return isAlive && models.every(({ converged }) => converged) ? true : undefined
  }
  await until('the node and its weights', serves)
}

async function restart(): Promise<void> {
  node = await fleet.start(node.id)
  await serving()
}

/** Returns the error that a client with three retries throws, and how often it called. */
async function refusal(
  ask: (counting: OpenAI) => PromiseLike<unknown>,
  apiKey = key,
  maxRetries = 3,
): Promise<{ error: APIError; calls: number }> {
  let calls = 0
  const counting = client.withOptions({
    apiKey,
    maxRetries,
    fetch: (url, init) => {
      calls += 1
      return fetch(url, init)
    },
  })
  const error = await thrownBy(() => ask(counting))
  return { error, calls }
}

async function thrownBy(call: () => PromiseLike<unknown>): Promise<APIError> {
  try {
    await call()
  } catch (error) {
    if (error instanceof APIError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
