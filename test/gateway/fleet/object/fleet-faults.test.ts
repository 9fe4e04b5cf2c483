import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { Fleet } from '../../../../gateway/src/fleet/object/fleet.ts'
import type { AdmissionResult } from '../../../../gateway/src/contracts/fleet-object.ts'
import type { Reservation } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  post,
  signedPost,
  until,
} from '../../support/requests/gateway-requests.ts'
import { loseDatabase } from '../../support/faults/lost-database.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const SSE = { 'content-type': 'text/event-stream', 'x-copal-mask': '0' }
const JSON_TYPE = { 'content-type': 'application/json', 'x-copal-mask': '0' }
const EVENTS = ['data: {"a":1}\n\n', 'data: [DONE]\n\n']
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
const ask = (key: string, model: string, changes: object = {}, headers: Record<string, string> = {}) =>
  post(key, '/v1/completions', { model, prompt: 'Once', ...changes }, { headers })
const leasesOn = async (id: string) => (await fleet().snapshot()).nodes.find((node) => node.id === id)?.leases

/** Replaces the call that asks the fleet for a node, until the test ends. */
function replaceAcquire(become: (acquire: () => Promise<AdmissionResult>) => Promise<AdmissionResult>): void {
  const { prototype } = Fleet
  const original = Object.getOwnPropertyDescriptor(prototype, 'acquire')
  if (!original) throw new Error('the fleet cannot be asked')
  onTestFinished(() => void Object.defineProperty(prototype, 'acquire', original))
  const value: Fleet['acquire'] = function acquire(this: Fleet, request) {
    return become(() => (original.value as Fleet['acquire']).call(this, request))
  }
  Object.defineProperty(prototype, 'acquire', { ...original, value })
}

test('after a reset of the fleet, waiting requests wait again and streams continue', async () => {
  stopClock()
  const { key } = await createKey()
  const node = await startNode('reset-1', [
    { kind: 'stream', headers: SSE, chunks: EVENTS, pauseMs: 300, ending: 'end' },
    { kind: 'answer', headers: JSON_TYPE, body: '{}' },
  ])
  await sendHeartbeat(node, 'reset')
  const stream = await ask(key, 'reset', { stream: true })
  await sendHeartbeat(node, 'reset', { draining: true })
  const waiting = ask(key, 'reset')
  await new Promise((resolve) => setTimeout(resolve, 100))
  await runInDurableObject(fleet(), (_, state) => state.abort('reset by a test')).catch(() => undefined)
  await sendHeartbeat(node, 'reset')
  expect(await (await waiting).text()).toBe('{}')
  expect(await stream.text()).toBe(EVENTS.join(''))
})

test('a call of the fleet is repeated if its object throws, and leases only once', async () => {
  const { key } = await createKey()
  const node = await startNode('throws-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(node, 'throws')
  let calls = 0
  replaceAcquire(async (acquire) => {
    const acquired = await acquire()
    calls += 1
    // The reply is lost, but the lease exists.
    if (calls === 1) throw new Error('the object was reset')
    return acquired
  })
  expect((await ask(key, 'throws')).status).toBe(200)
  expect(await leasesOn('throws-1')).toBe(1)
})

test('a request whose node was leased, but of which no reply arrives, gives the node back', async () => {
  const { key } = await createKey()
  const node = await startNode('no-reply-1', [])
  await sendHeartbeat(node, 'no-reply')
  replaceAcquire(async (acquire) => {
    await acquire()
    throw new Error('the connection to the object was lost')
  })
  expect((await ask(key, 'no-reply')).status).toBe(503)
  await expect.poll(() => leasesOn('no-reply-1'), { timeout: 5_000 }).toBe(0)
})

test.each([
  ['HTML', 'garbage-a', { 'content-type': 'text/html' }, '<h1>It works!</h1>'],
  ['text that claims to be JSON', 'garbage-b', JSON_TYPE, 'It works!'],
])('a request whose node returns %s is retried on another node', async (_, model, headers, body) => {
  const { key } = await createKey()
  const bad = await startNode(`${model}-1`, [{ kind: 'answer', headers, body }])
  const good = await startNode(`${model}-2`, [{ kind: 'answer', headers: JSON_TYPE, body: '{"ok":1}' }])
  await sendHeartbeat(bad, model)
  await sendHeartbeat(good, model, { load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 } })
  expect(await (await ask(key, model)).text()).toBe('{"ok":1}')
  expect(await bad.calls()).toHaveLength(1)
})

const INTERNAL = {
  kind: 'answer',
  status: 500,
  headers: { 'content-type': 'application/json' },
  body: '{"error":{"code":"internal_error","message":"Internal error.","type":"server_error","param":null}}',
} as const

test('a node that fails every request at once attracts no traffic: requests are retried elsewhere and its breaker opens', async () => {
  stopClock()
  const { key } = await createKey()
  const bad = await startNode('hole-1', [INTERNAL])
  const good = await startNode('hole-2', [{ kind: 'answer', headers: JSON_TYPE, body: '{"ok":1}' }])
  await sendHeartbeat(bad, 'hole')
  await sendHeartbeat(good, 'hole', { load: { running: 9, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 } })
  for (let requests = 0; requests < 5; requests += 1)
    expect(await (await ask(key, 'hole')).text()).toBe('{"ok":1}')
  expect(await bad.calls()).toHaveLength(3)
})

test('a request that causes internal errors on two nodes is not tried on a third', async () => {
  const { key } = await createKey()
  const nodes = await Promise.all(['poison-1', 'poison-2', 'poison-3'].map((id) => startNode(id, [INTERNAL])))
  for (const node of nodes) await sendHeartbeat(node, 'poison')
  const answer = await ask(key, 'poison')
  expect([answer.status, (await errorOf(answer)).code]).toEqual([500, 'internal_error'])
  const calls = await Promise.all(nodes.map((node) => node.calls()))
  expect(calls.flat()).toHaveLength(2)
})

test('invalid requests do not count as failures of their node', async () => {
  const { key } = await createKey()
  const refusal = {
    ...INTERNAL,
    status: 400,
    body: INTERNAL.body.replace('internal_error', 'invalid_request'),
  }
  const node = await startNode('picky-1', [
    ...Array.from({ length: 5 }, () => refusal),
    { kind: 'answer', headers: JSON_TYPE, body: '{"ok":1}' },
  ])
  await sendHeartbeat(node, 'picky-node')
  for (let requests = 0; requests < 5; requests += 1) expect((await ask(key, 'picky-node')).status).toBe(400)
  expect(await (await ask(key, 'picky-node')).text()).toBe('{"ok":1}')
})

test('a late response is trimmed and has its mask in a header; a late error has its own status', async () => {
  const { key } = await createKey()
  const late = { 'content-type': 'application/json', 'x-copal-late': 'true' }
  const error = '{"error":{"code":"deadline_exceeded","message":"Too late.","type":"x","param":null}}'
  const node = await startNode('late-1', [
    {
      kind: 'stream',
      headers: late,
      chunks: [' ', ' ', '{"system_fingerprint":"copal-late-m12"}'],
      pauseMs: 20,
      ending: 'end',
    },
    { kind: 'stream', headers: late, chunks: [' ', error], pauseMs: 20, ending: 'end' },
  ])
  await sendHeartbeat(node, 'late')
  const answer = await ask(key, 'late')
  expect(answer.headers.get('x-copal-mask')).toBe('12')
  expect(await answer.text()).toBe('{"system_fingerprint":"copal-late-m12"}')
  const refused = await ask(key, 'late')
  expect(refused.status).toBe(504)
  expect(await errorOf(refused)).toMatchObject({ message: 'Too late.' })
})

test('a stream that breaks after comments only is retried on another node', async () => {
  const { key } = await createKey()
  const comments = Array.from({ length: 3 }, () => ': keep-alive\n\n')
  const bad = await startNode('comments-1', [
    { kind: 'stream', headers: SSE, chunks: comments, pauseMs: 30, ending: 'destroy' },
  ])
  const good = await startNode('comments-2', [
    { kind: 'stream', headers: SSE, chunks: EVENTS, ending: 'end' },
  ])
  await sendHeartbeat(bad, 'comments')
  await sendHeartbeat(good, 'comments', {
    load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 },
  })
  const answer = await ask(key, 'comments', { stream: true })
  expect(answer.headers.get('x-copal-node')).toBe('comments-2')
  expect(await answer.text()).toBe(EVENTS.join(''))
})

const LATE = { 'content-type': 'text/event-stream', 'x-copal-late': 'true' }
const COMMENT = ': keep-alive\n\n'

test.each([
  ['in a chunk of its own', 'waited', [': mask 12\n\n'], ''],
  ['in the chunk of the first event', 'waited-together', [], ': mask 12\n\n'],
])('a late stream whose mask is named %s has it in its header', async (_, model, chunks, before) => {
  const { key } = await createKey()
  const first = `${before}data: {"system_fingerprint":"copal-x-m99","text":": mask 98"}\n\n`
  const events = [first, 'data: [DONE]\n\n']
  const node = await startNode(`${model}-1`, [
    { kind: 'stream', headers: LATE, chunks: [COMMENT, ...chunks, ...events], pauseMs: 20, ending: 'end' },
  ])
  await sendHeartbeat(node, model)
  const response = await ask(key, model, { stream: true })
  expect(response.headers.get('x-copal-mask')).toBe('12')
  expect(await response.text()).toBe(events.join(''))
})

test.each([
  ['the name of the first event', 'split-event', [': mask 12\n\nevent: crea', 'ted\ndata: {"a":1}\n\n']],
  ['a comment', 'split-comment', [': mask 12\n\n: keep-al', 'ive\n\ndata: {"a":1}\n\n']],
])('no byte of a stream is lost where a chunk ends within %s', async (_, model, chunks) => {
  const { key } = await createKey()
  const node = await startNode(`${model}-1`, [
    { kind: 'stream', headers: LATE, chunks: [COMMENT, ...chunks], pauseMs: 50, ending: 'end' },
  ])
  await sendHeartbeat(node, model)
  const response = await ask(key, model, { stream: true })
  expect(response.headers.get('x-copal-mask')).toBe('12')
  expect(await response.text()).toBe(chunks.join(''))
})

test('a stream that waits longer than the hold begins with comments and without a mask in its headers', async () => {
  const { key } = await createKey()
  const goOn = stopClock()
  const comments = Array.from({ length: 100 }, () => COMMENT)
  const node = await startNode('waits-1', [
    { kind: 'stream', headers: LATE, chunks: [...comments, ...EVENTS], pauseMs: 100, ending: 'end' },
    // It sends no heartbeat meanwhile, so the gateway checks its health.
    { kind: 'answer', body: '{}' },
  ])
  await sendHeartbeat(node, 'waits')
  let response: Response | undefined
  const asked = ask(key, 'waits', { stream: true }).then((begun) => (response = begun))
  await until('the hold to end', async () => {
    goOn(500)
    return response
  })
  const answer = await asked
  expect(answer.status).toBe(200)
  expect(answer.headers.get('x-copal-mask')).toBeNull()
  expect(answer.headers.get('x-copal-node')).toBe('waits-1')
  expect((await answer.text()).replace(/^(: keep-alive\n\n)+/, COMMENT)).toBe(COMMENT + EVENTS.join(''))
})

test.each([
  ['event-chat', `data: {"error":{"code":"node_failed","message":"Lost.","type":"x","param":null}}\n\n`],
  [
    'event-response',
    'event: error\ndata: {"type":"error","code":"node_failed","message":"Lost.","param":null}\n\n',
  ],
])('a stream whose first event is an error is retried on another node (%s)', async (model, event) => {
  const { key } = await createKey()
  const bad = await startNode(`${model}-1`, [
    { kind: 'stream', headers: LATE, chunks: [COMMENT, event], ending: 'end' },
  ])
  const good = await startNode(`${model}-2`, [
    { kind: 'stream', headers: SSE, chunks: EVENTS, ending: 'end' },
  ])
  await sendHeartbeat(bad, model)
  await sendHeartbeat(good, model, { load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 } })
  const answer = await ask(key, model, { stream: true })
  expect(answer.headers.get('x-copal-node')).toBe(`${model}-2`)
  expect(await answer.text()).toBe(EVENTS.join(''))
  expect(await bad.calls()).toHaveLength(1)
})

test('an error after comments has its own status', async () => {
  const { key } = await createKey()
  const error = '{"error":{"code":"invalid_request","message":"No.","type":"x","param":"tools"}}'
  const node = await startNode('refuses-1', [
    { kind: 'stream', headers: LATE, chunks: [COMMENT, `data: ${error}\n\n`], pauseMs: 20, ending: 'end' },
  ])
  await sendHeartbeat(node, 'refuses')
  const answer = await ask(key, 'refuses', { stream: true })
  expect([answer.status, await errorOf(answer)]).toMatchObject([400, { message: 'No.', param: 'tools' }])
})

test('a full fleet lets a request wait for its turn, and then rejects it with a retry time', async () => {
  const { key } = await createKey()
  const node = await startNode('turn-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  const full = { running: 2, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
  await sendHeartbeat(node, 'turn', { load: full })
  // Unsettled leases, without which a node is not full.
  for (const id of ['turn-lease-1', 'turn-lease-2'])
    await fleet().acquire({ model: 'turn', requestId: id, domain: 'd', promptTokens: 1, exclude: [] })
  const refused = await ask(key, 'turn')
  expect(refused.status).toBe(429)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(await errorOf(refused)).toMatchObject({
    code: 'overloaded',
    type: 'rate_limit_error',
    message: expect.stringContaining("All nodes that serve 'turn' are busy, and the wait would be too long."),
  })
  // However long it takes to free the place.
  stopClock()
  const waiting = ask(key, 'turn')
  await fleet().fail({ requestId: 'turn-lease-1', nodeId: 'turn-1', how: 'refused' })
  expect((await waiting).status).toBe(200)
})

test('a client that leaves while it waits gets no lease and is not counted as rejected', async () => {
  const { key } = await createKey({ limits: { concurrentRequests: 1 } })
  const node = await startNode('queue-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(node, 'queue', { draining: true })
  const controller = new AbortController()
  const body = { model: 'queue', prompt: 'Once' }
  const pending = post(key, '/v1/completions', body, { signal: controller.signal }).catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, 100))
  controller.abort()
  await pending
  await sendHeartbeat(node, 'queue')
  await until('its place to be free', async () => {
    const answer = await ask(key, 'queue')
    return answer.status === 200 ? true : undefined
  })
  expect(await node.calls()).toHaveLength(1)
})

test('a client that leaves before the call of the fleet arrives has no lease in the end', async () => {
  const { id, key } = await createKey({ limits: { tokensPerMonth: 1_000 } })
  const node = await startNode('overtaken-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(node, 'overtaken')
  const asked = Promise.withResolvers<void>()
  const abandoned = Promise.withResolvers<void>()
  const taken: boolean[] = []
  replaceAcquire(async (acquire) => {
    asked.resolve()
    await abandoned.promise
    const acquired = await acquire()
    taken.push(acquired.ok)
    return acquired
  })
  const abandon = vi.spyOn(Fleet.prototype, 'abandon')
  onTestFinished(() => abandon.mockRestore())
  const controller = new AbortController()
  const body = { model: 'overtaken', prompt: 'Once' }
  const pending = post(key, '/v1/completions', body, { signal: controller.signal }).catch(() => undefined)
  await asked.promise
  controller.abort()
  await pending
  await until('it to be abandoned', async () => (abandon.mock.calls.length > 0 ? true : undefined))
  abandoned.resolve()
  await until('it to be leased', async () => taken[0])
  await until('its lease to end', async () => ((await leasesOn('overtaken-1')) === 0 ? true : undefined))
  expect(taken).toEqual([true])
  await fleet().saveCounts()
  const holds = await runInDurableObject(fleet(), (_, { storage }) =>
    storage.list<Reservation>({ prefix: 'hold:' }),
  )
  expect([...holds.values()].filter(({ accounts }) => accounts.includes(`key:${id}`))).toEqual([])
  expect(await node.calls()).toEqual([])
})

test('the call of the fleet is not repeated for a client that has left', async () => {
  const { key } = await createKey()
  const node = await startNode('no-more-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(node, 'no-more')
  const asked = Promise.withResolvers<void>()
  const left = Promise.withResolvers<void>()
  let calls = 0
  replaceAcquire(async () => {
    calls += 1
    asked.resolve()
    await left.promise
    throw new Error('the object was reset')
  })
  const controller = new AbortController()
  const body = { model: 'no-more', prompt: 'Once' }
  const pending = post(key, '/v1/completions', body, { signal: controller.signal }).catch(() => undefined)
  await asked.promise
  controller.abort()
  await pending
  left.resolve()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  expect(calls).toBe(1)
})

test('an unknown priority is rejected with the name of its header', async () => {
  const { key } = await createKey()
  const refused = await ask(key, 'any', {}, { 'x-copal-priority': 'urgent' })
  expect(refused.status).toBe(400)
  expect(await errorOf(refused)).toMatchObject({ param: 'x-copal-priority' })
})

test('while the database fails, heartbeats of known nodes still count', async () => {
  const { key } = await createKey()
  const node = await startNode('db-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(node, 'db')
  // The key is cached from now on.
  await get('/v1/models', key)
  loseDatabase()
  const drained = heartbeatOf(node, 'db', { draining: true })
  const unheard = await signedPost('/internal/nodes/heartbeat', drained)
  expect([unheard.status, unheard.headers.get('retry-after')]).toEqual([503, '5'])
  expect(await errorOf(unheard)).toMatchObject({ code: 'service_unavailable' })
  expect((await fleet().snapshot()).nodes.find(({ id }) => id === 'db-1')).toMatchObject({ draining: true })
  expect((await signedPost('/internal/nodes/heartbeat', heartbeatOf(node, 'db'))).status).toBe(503)
  expect((await ask(key, 'db')).status).toBe(200)
})
