import { expect, test } from 'vitest'
import { createAlarms } from '../../../../gateway/src/runtime/alarms.ts'
import { callNode, NodeCallError } from '../../../../gateway/src/fleet/client/node-client.ts'
import { readWholeResponse } from '../../../../gateway/src/fleet/client/whole-response.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const deps = testDeps()

function call(node: NodeDouble, options: { attempt?: AbortController; firstByteTimeoutMs?: number } = {}) {
  const { attempt = new AbortController(), firstByteTimeoutMs = 10_000 } = options
  const firstByte = { timeoutMs: firstByteTimeoutMs, alarms: createAlarms() }
  const address = { nodeId: node.id, url: node.url }
  return callNode(deps, address, '/rpc/x', {}, { attempt, firstByte })
}

async function failure(pending: Promise<unknown>): Promise<[string, string]> {
  const error = await pending.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof NodeCallError)) throw new Error(`unexpected outcome: ${String(error)}`)
  return [error.error.code, error.how]
}

test('a node that sends nothing in time causes deadline_exceeded', async () => {
  const hanging = await startNode('late-1', [{ kind: 'hang' }])
  expect(await failure(call(hanging, { firstByteTimeoutMs: 100 }))).toEqual(['deadline_exceeded', 'failed'])
  const headersOnly = await startNode('late-2', [{ kind: 'stream', chunks: [], ending: 'hang' }])
  expect(await failure(call(headersOnly, { firstByteTimeoutMs: 100 }))).toEqual([
    'deadline_exceeded',
    'failed',
  ])
})

test('the timeout ends with the first byte', async () => {
  const goOn = stopClock()
  const node = await startNode('slow-1', [
    { kind: 'stream', chunks: ['a', 'b', 'c', 'd'], pauseMs: 1_000, ending: 'end' },
  ])
  const answer = await call(node, { firstByteTimeoutMs: 60_000 })
  goOn(60_000)
  const body = await readWholeResponse(
    { nodeId: 'slow-1', url: node.url },
    answer,
    new AbortController().signal,
  )
  expect(new TextDecoder().decode(body)).toBe('abcd')
})

test('a client that leaves and a connection that breaks cause different errors', async () => {
  const node = await startNode('caller-1', [{ kind: 'hang' }])
  const controller = new AbortController()
  setTimeout(() => controller.abort(), 50)
  expect(await failure(call(node, { attempt: controller }))).toEqual(['client_closed_request', 'ended'])
  const dropping = await startNode('caller-2', [{ kind: 'drop' }])
  expect(await failure(call(dropping))).toEqual(['node_failed', 'broke'])
  await dropping.kill()
  expect(await failure(call(dropping))).toEqual(['node_failed', 'broke'])
})

test('an empty response counts as broken', async () => {
  const node = await startNode('empty-1', [{ kind: 'answer', body: '' }])
  expect(await failure(call(node))).toEqual(['node_failed', 'broke'])
})

test('a response that is too large does not count against the node', async () => {
  const node = { nodeId: 'large-1', url: 'http://127.0.0.1:9' }
  const chunk = new Uint8Array(1024 * 1024)
  let left = 8
  const rest = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      if (left === 0) return controller.close()
      left -= 1
      controller.enqueue(chunk)
    },
  })
  const answer = { headers: new Headers(), first: new Uint8Array(1), rest }
  const whole = readWholeResponse(node, answer, new AbortController().signal)
  expect(await failure(whole)).toEqual(['invalid_request', 'ended'])
})

test('a late response and a late error are distinguished, and the mask is found, by their first fields only', async () => {
  const read = (text: string) => {
    const answer = {
      headers: new Headers({ 'x-copal-late': 'true' }),
      first: new Uint8Array([0x20]),
      rest: new Blob([`  ${text}`]).stream() as ReadableStream<Uint8Array>,
    }
    const node = { nodeId: 'late-3', url: 'http://127.0.0.1:9' }
    return { answer, body: readWholeResponse(node, answer, new AbortController().signal) }
  }
  const text =
    '{"system_fingerprint":"copal-x-m12","metadata":{"system_fingerprint":"copal-x-m99"},"error":null}'
  const { answer, body } = read(text)
  expect(new TextDecoder().decode(await body)).toBe(text)
  expect(answer.headers.get('x-copal-mask')).toBe('12')
  const error = '{"error":{"code":"node_failed","message":"Lost.","type":"server_error","param":null}}'
  expect(await failure(read(error).body)).toEqual(['node_failed', 'failed'])
  expect(await failure(read('').body)).toEqual(['node_failed', 'broke'])
  expect(await failure(read('{"cut":').body)).toEqual(['node_failed', 'broke'])
})

test.each(['node_failed', 'invalid_output', 'internal_error'] as const)(
  'an error %s of a node is a fault of the node',
  async (code) => {
    const body = JSON.stringify({ error: { code, message: 'Failed.', type: 'server_error', param: null } })
    const node = await startNode(`fault-${code}`, [{ kind: 'answer', status: 502, body }])
    expect(await failure(call(node))).toEqual([code, 'failed'])
  },
)

test('a redirect counts as an error of the node and is not followed', async () => {
  const elsewhere = await startNode('redirect-1', [{ kind: 'answer', body: 'stolen' }])
  const headers = { location: `${elsewhere.url}/rpc/x` }
  const node = await startNode('redirect-2', [{ kind: 'answer', status: 307, headers, body: '' }])
  expect(await failure(call(node))).toEqual(['node_failed', 'failed'])
  expect(await elsewhere.calls()).toEqual([])
})

test('a stream may begin with a part of the name of its first field', async () => {
  const event = 'data: {"id":"x"}\n\n'
  for (const length of [1, 4]) {
    const node = await startNode(`split-${length}`, [
      {
        kind: 'stream',
        headers: { 'content-type': 'text/event-stream' },
        chunks: [event.slice(0, length), event.slice(length)],
        pauseMs: 100,
        ending: 'end',
      },
    ])
    const address = { nodeId: node.id, url: node.url }
    const attempt = new AbortController()
    const response = await callNode(deps, address, '/rpc/x', {}, { attempt, expected: 'events' })
    expect(response.first.byteLength).toBe(length)
    const body = await readWholeResponse(address, response, attempt.signal)
    expect(new TextDecoder().decode(body)).toBe(event)
  }
})

test.each([
  ['has another type', { headers: { 'content-type': 'text/html' }, chunks: ['<html>'] }],
  ['begins like no event', { headers: { 'content-type': 'text/event-stream' }, chunks: ['{"x":'] }],
])('a node whose response %s is not kept busy with it', async (what, response) => {
  const node = await startNode(`useless-${what.length}`, [{ kind: 'stream', ...response, ending: 'hang' }])
  const attempt = new AbortController()
  const calling = callNode(
    deps,
    { nodeId: node.id, url: node.url },
    '/rpc/x',
    {},
    { attempt, expected: 'events' },
  )
  expect(await failure(calling)).toEqual(['node_failed', 'failed'])
  expect(attempt.signal.aborted).toBe(true)
  await expect.poll(async () => (await node.calls())[0]?.leftAtMs).toEqual(expect.any(Number))
})
