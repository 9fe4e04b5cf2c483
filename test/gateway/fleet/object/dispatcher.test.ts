import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Dispatcher } from '../../../../gateway/src/fleet/object/dispatcher.ts'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import type { AcquireResult, AcquireRequest } from '../../../../gateway/src/contracts/acquire.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const node = { id: 'a', url: 'http://127.0.0.1:1' }
const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000, toFake: ['Date', 'setInterval', 'clearInterval'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Creates a fleet of one node, by default with one slot, so with room for two requests. */
function setup(policy: Partial<typeof DEFAULT_POLICY> = {}, slots = 1) {
  const state = new FleetState({ ...DEFAULT_POLICY, ...policy })
  const dispatcher = new Dispatcher(state, { ...DEFAULT_POLICY, ...policy })
  state.heartbeat(heartbeatOf(node, 'm', { load: { ...load, slots } }), 0, Date.now())
  const order: string[] = []
  const refused = new Map<string, Extract<AcquireResult, { ok: false }>>()
  const ask = async (requestId: string, changes: Partial<AcquireRequest> = {}) => {
    const request = { model: 'm', requestId, domain: 'd', promptTokens: 1, exclude: [], ...changes }
    const acquired = await dispatcher.acquire(request)
    if (acquired.ok) order.push(requestId)
    else refused.set(requestId, acquired)
  }
  /** Ends a request as its receipt would. */
  const end = async (requestId: string) => {
    state.release([requestId])
    dispatcher.serveQueue()
    await vi.advanceTimersByTimeAsync(0)
  }
  /** Sets the mean duration of requests. */
  const take = async (ms: number) => {
    void ask('measured')
    await vi.advanceTimersByTimeAsync(ms)
    state.heartbeat(heartbeatOf(node, 'm', { load: { ...load, slots } }), 0, Date.now())
    state.succeeded('measured', Date.now())
    await end('measured')
    order.length = 0
  }
  const asked = new Map<string, number>()
  const askMany = (name: string, count: number, changes: Partial<AcquireRequest> = {}) => {
    const before = asked.get(name) ?? 0
    asked.set(name, before + count)
    for (let index = 1; index <= count; index += 1)
      void ask(`${name}-${before + index}`, { tenant: name, ...changes })
    return vi.advanceTimersByTimeAsync(0)
  }
  return { state, dispatcher, order, refused, ask, askMany, end, take }
}

test('a full fleet serves tenants in turn, and within a tenant in order of arrival', async () => {
  const { order, ask, end } = setup()
  for (const id of ['a-1', 'a-2', 'a-3', 'a-4', 'a-5']) void ask(id, { tenant: 'a' })
  for (const id of ['b-1', 'b-2']) void ask(id, { tenant: 'b' })
  await vi.advanceTimersByTimeAsync(0)
  expect(order).toEqual(['a-1', 'a-2'])
  for (let turn = 0; turn < 5; turn += 1) await end(order[turn] ?? '')
  // The tenant with the fewest running requests goes first, so that a flood of one tenant does not block another.
  expect(order).toEqual(['a-1', 'a-2', 'b-1', 'a-3', 'b-2', 'a-4', 'a-5'])
})

test('interactive requests go before batch ones, which never wait on a node', async () => {
  const { order, ask, end } = setup()
  void ask('batch-1', { priority: 'batch', tenant: 'a' })
  void ask('batch-2', { priority: 'batch', tenant: 'a' })
  await vi.advanceTimersByTimeAsync(0)
  void ask('now-1', { tenant: 'b' })
  await vi.advanceTimersByTimeAsync(0)
  expect(order).toEqual(['batch-1', 'now-1'])
  await end('batch-1')
  expect(order).toEqual(['batch-1', 'now-1'])
  await end('now-1')
  expect(order).toEqual(['batch-1', 'now-1', 'batch-2'])
})

test('a request that has waited for the maximum time is rejected with the estimated wait', async () => {
  const { state, order, refused, ask, end } = setup({ queueMs: 5_000 })
  void ask('first')
  await vi.advanceTimersByTimeAsync(1_500)
  state.succeeded('first', Date.now())
  await end('first')
  for (const id of ['r-1', 'r-2', 'r-3', 'r-4']) void ask(id)
  await vi.advanceTimersByTimeAsync(4_900)
  expect(refused.size).toBe(0)
  state.heartbeat(heartbeatOf(node, 'm', { load: { ...load, running: 2 } }), 0, Date.now())
  await vi.advanceTimersByTimeAsync(200)
  expect(order).toEqual(['first', 'r-1', 'r-2'])
  expect([...refused.keys()]).toEqual(['r-3', 'r-4'])
  // One request takes 1.5 s on one slot.
  expect(refused.get('r-3')).toMatchObject({ reason: 'full', retryAfterMs: 3_000 })
})

test('a request whose estimated wait exceeds the maximum is rejected at once', async () => {
  const { state, refused, ask, end } = setup({ queueMs: 5_000 })
  void ask('slow')
  await vi.advanceTimersByTimeAsync(4_000)
  state.succeeded('slow', Date.now())
  await end('slow')
  for (const id of ['r-1', 'r-2', 'r-3', 'r-4']) void ask(id)
  await vi.advanceTimersByTimeAsync(0)
  expect(refused.get('r-4')).toMatchObject({ reason: 'full', retryAfterMs: 8_000 })
  expect(refused.has('r-3')).toBe(false)
})

describe('a backlog', () => {
  test('of one tenant rejects further requests of that tenant only', async () => {
    const { order, refused, askMany, end, take } = setup({}, 8)
    await take(10_000)
    await askMany('a', 33)
    expect(order).toHaveLength(16)
    // Eight slots and ten seconds per request: sixteen waiting requests reach the maximum wait.
    expect([...refused.keys()]).toEqual(['a-33'])
    await askMany('b', 3)
    expect(refused.size).toBe(1)
    for (let turn = 1; turn <= 3; turn += 1) await end(`a-${turn}`)
    expect(order.slice(16)).toEqual(['b-1', 'b-2', 'b-3'])
  })

  test('counts for another tenant once that has as many requests running', async () => {
    const { order, refused, askMany, take } = setup({}, 8)
    await take(10_000)
    await askMany('a', 8)
    await askMany('b', 8)
    await askMany('a', 12)
    expect(order).toHaveLength(16)
    expect(refused.size).toBe(0)
    // They alternate from here on: seven requests of `b` and eight of `a` go before the eighth of `b`.
    await askMany('b', 9)
    expect([...refused.keys()]).toEqual(['b-17'])
  })

  test('of batch requests blocks no interactive request, neither on a node nor in the queue', async () => {
    const { order, refused, ask, askMany, take } = setup({ queueSize: 40 }, 8)
    await take(10_000)
    await askMany('a', 24, { priority: 'batch' })
    await askMany('b', 24, { priority: 'batch' })
    expect(order).toEqual(Array.from({ length: 8 }, (_, index) => `a-${index + 1}`))
    expect(48 - order.length - refused.size).toBeLessThanOrEqual(20)
    const before = refused.size
    await askMany('c', 9)
    expect(order.slice(8)).toEqual(Array.from({ length: 8 }, (_, index) => `c-${index + 1}`))
    void ask('late', { tenant: 'a' })
    await vi.advanceTimersByTimeAsync(0)
    expect(refused.size).toBe(before)
  })

  test('for a named version whose node is full does not block an idle node', async () => {
    const { state, order, refused, askMany, take } = setup({}, 1)
    await take(10_000)
    const weightSets = [0, 5].map((version) => ({ version, state: 'ready' as const, requests: 0 }))
    state.heartbeat(heartbeatOf(node, 'm', { load, weightSets }), 0, Date.now())
    await askMany('named', 6, { version: 5 })
    expect(order).toEqual(['named-1', 'named-2'])
    // Estimated from the node that holds the version, not from all nodes of the model.
    expect([...refused.keys()]).toEqual(['named-5', 'named-6'])
    state.heartbeat(heartbeatOf({ ...node, id: 'b' }, 'm', { load }), 0, Date.now())
    await askMany('any', 2, { tenant: 'named' })
    expect(order.slice(2)).toEqual(['any-1', 'any-2'])
  })
})

test('no tenant can fill the queue alone', async () => {
  const { order, refused, ask } = setup({ queueSize: 4 })
  for (let index = 0; index < 8; index += 1) void ask(`a-${index}`, { tenant: 'a' })
  for (let index = 0; index < 3; index += 1) void ask(`b-${index}`, { tenant: 'b' })
  await vi.advanceTimersByTimeAsync(0)
  expect(order).toEqual(['a-0', 'a-1'])
  expect([...refused.keys()]).toEqual(['a-4', 'a-5', 'a-6', 'a-7', 'b-2'])
})

test('a request waits for a node that may return, and not for one that has been gone for long', async () => {
  const { state, order, refused, ask } = setup()
  await vi.advanceTimersByTimeAsync(DEFAULT_POLICY.silentMs)
  void ask('waits')
  await vi.advanceTimersByTimeAsync(2_000)
  state.heartbeat(heartbeatOf(node, 'm', { load }), 0, Date.now())
  await vi.advanceTimersByTimeAsync(200)
  expect(order).toEqual(['waits'])
  await vi.advanceTimersByTimeAsync(DEFAULT_POLICY.silentMs)
  void ask('in vain')
  await vi.advanceTimersByTimeAsync(DEFAULT_POLICY.nodeWaitMs + 200)
  expect(refused.get('in vain')).toMatchObject({ reason: 'absent' })
  await vi.advanceTimersByTimeAsync(DEFAULT_POLICY.deadMs)
  void ask('too late')
  void ask('elsewhere', { model: 'x' })
  await vi.advanceTimersByTimeAsync(0)
  expect(refused.get('too late')).toMatchObject({ reason: 'absent' })
  expect(refused.get('elsewhere')).toMatchObject({ reason: 'unknown' })
})

test('if the queue is full of requests that wait for a node to return, the next is rejected as absent and not as full', async () => {
  const { refused, ask } = setup({ queueSize: 1 })
  await vi.advanceTimersByTimeAsync(DEFAULT_POLICY.silentMs)
  void ask('waits')
  void ask('one too many')
  await vi.advanceTimersByTimeAsync(0)
  expect(refused.has('waits')).toBe(false)
  expect(refused.get('one too many')).toMatchObject({ reason: 'absent' })
})

test('a request that leaves the queue is not served, and no timer runs while the queue is empty', async () => {
  const { dispatcher, order, refused, ask, end } = setup()
  for (const id of ['r-1', 'r-2', 'r-3', 'r-4']) void ask(id)
  dispatcher.abandon('r-3')
  dispatcher.abandon('r-1')
  await vi.advanceTimersByTimeAsync(0)
  expect([...refused]).toMatchObject([['r-3', { reason: 'left' }]])
  await end('r-1')
  expect(order).toEqual(['r-1', 'r-2', 'r-4'])
  expect(vi.getTimerCount()).toBe(0)
})

test('an attempt that asks again while it waits keeps its position, and both calls get the same result', async () => {
  const { order, ask, end } = setup()
  for (const id of ['r-1', 'r-2', 'r-3', 'r-4', 'r-3']) void ask(id)
  for (const id of ['r-1', 'r-2']) await end(id)
  expect(order).toEqual(['r-1', 'r-2', 'r-3', 'r-3', 'r-4'])
})

test('a fleet whose retry budget is used up retries nothing', async () => {
  const { state, order, refused, ask } = setup()
  for (let attempt = 0; attempt < 250; attempt += 1) {
    state.heartbeat(heartbeatOf(node, 'm', { load }), 0, Date.now())
    await ask(`r-${attempt}`, { failed: { requestId: `r-${attempt - 1}`, nodeId: 'a', how: 'refused' } })
  }
  expect(order).toHaveLength(200)
  expect(refused.get('r-249')).toMatchObject({ reason: 'retries' })
})

test('a full fleet does not try the queue of each tenant whenever something changes', async () => {
  const { state, dispatcher, order, askMany, end } = setup()
  for (let tenant = 0; tenant < 20; tenant += 1) await askMany(`t${tenant}`, 2)
  const acquire = vi.spyOn(state, 'acquire')
  dispatcher.serveQueue()
  expect(acquire).not.toHaveBeenCalled()
  await end(order[0] ?? '')
  expect(acquire).toHaveBeenCalledOnce()
  expect(order).toHaveLength(3)
})
