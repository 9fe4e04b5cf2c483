import { describe, expect, test } from 'vitest'
import type { Heartbeat } from '@copal/shared/wire/node-rpc.ts'
import { DEFAULT_POLICY } from '../../../gateway/src/fleet/policy.ts'
import { FleetState, FORGET_MS } from '../../../gateway/src/fleet/state.ts'
import { isChosen } from '../../../gateway/src/trials/trial.ts'
import { heartbeatOf } from '../support/gateway.ts'

const { silentMs: ALIVE_MS, deadMs: DEAD_MS, leaseMs: LEASE_MS } = DEFAULT_POLICY
const a = { id: 'a', url: 'http://127.0.0.1:1' }
const b = { id: 'b', url: 'http://127.0.0.1:2' }
const ask = (requestId: string, changes: object = {}) => ({
  model: 'm',
  requestId,
  domain: 'default',
  promptTokens: 7,
  exclude: [],
  ...changes,
})
const ready = (version: number) => ({
  activeVersion: version,
  weightSets: [{ version, state: 'ready' as const, requests: 0 }],
})

test('offers the methods of the living nodes of a model, and tells when there is none to ask', () => {
  const fleet = new FleetState()
  expect(fleet.offeredMethods('m', 0)).toBeNull()
  fleet.heartbeat(heartbeatOf(a, 'm', { methods: ['wanda', 'copal'] }), 0, 0)
  fleet.heartbeat(heartbeatOf(b, 'other', { methods: ['magnitude'] }), 0, 0)
  expect(fleet.offeredMethods('m', 1)).toEqual(['copal', 'wanda'])
  fleet.heartbeat(heartbeatOf({ ...b, id: 'c' }, 'm', { methods: ['copal', 'copal+swaps'] }), 0, 2)
  expect(fleet.offeredMethods('m', 3)).toEqual(['copal', 'copal+swaps', 'wanda'])
  expect(fleet.offeredMethods('m', ALIVE_MS)).toEqual(['copal', 'copal+swaps'])
  expect(fleet.offeredMethods('m', 2 + ALIVE_MS)).toBeNull()
})

describe('a canary', () => {
  const both = (changes: Partial<Heartbeat> = {}) => ({
    activeVersion: 4,
    weightSets: [4, 5].map((version) => ({ version, state: 'ready' as const, requests: 0 })),
    ...changes,
  })
  const trials = { canary: { version: 5, share: 0.5 } }
  const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`)
  const isIn = (account: string) => isChosen('canary', trials.canary, 'm', account)
  const inside = keys.find(isIn) ?? ''
  const outside = keys.find((account) => !isIn(account)) ?? ''

  test('answers the keys of its share, pinned, and no others; nor requests that name their weights', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
    for (const account of keys) {
      const expected = isIn(account) ? { maskVersion: 5, pinned: true } : { maskVersion: 4 }
      const { url } = a
      expect(fleet.acquire(ask(`request of ${account}`, { account }), 0)).toEqual({
        ok: true,
        nodeId: 'a',
        url,
        ...expected,
      })
    }
    expect(keys.filter(isIn).length).toBeGreaterThan(5)
    expect(fleet.acquire(ask('no key'), 0)).toMatchObject({ maskVersion: 4 })
    for (const version of [4, 5]) {
      const named = fleet.acquire(ask(`names ${version}`, { account: inside, version }), 0)
      expect(named).toMatchObject({ maskVersion: version })
      expect(named).not.toHaveProperty('pinned')
    }
  })

  test('goes to a node that holds it, and is left to the active mask where none does or all that do are full', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', ready(4)), 4, 0, trials)
    expect(fleet.versionFor('m', inside, 0)).toBe(4)
    expect(fleet.acquire(ask('request-1', { account: inside }), 0)).toMatchObject({ maskVersion: 4 })
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(b, 'm', both({ load })), 4, 1, trials)
    expect([inside, outside].map((account) => fleet.versionFor('m', account, 1))).toEqual([5, 4])
    for (const id of ['request-2', 'request-3'])
      expect(fleet.acquire(ask(id, { account: inside }), 1)).toMatchObject({ nodeId: 'b', maskVersion: 5 })
    expect(fleet.acquire(ask('request-4', { account: inside }), 1)).toMatchObject({
      nodeId: 'a',
      maskVersion: 4,
    })
  })

  test('is not tried again where it failed: the active mask answers', () => {
    const fleet = new FleetState()
    for (const node of [a, b]) fleet.heartbeat(heartbeatOf(node, 'm', both()), 4, 0, trials)
    const first = fleet.acquire(ask('request-1', { account: inside }), 0)
    if (!first.ok) throw new Error('no node')
    fleet.fail({ requestId: 'request-1', nodeId: first.nodeId, how: 'failed' }, 1)
    const second = fleet.acquire(ask('request-1.2', { account: inside, exclude: [first.nodeId] }), 1)
    expect(second).toMatchObject({ ok: true, maskVersion: 4 })
  })

  test('is what the node heard last was told, kept while nobody can tell, and over a restart', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
    fleet.heartbeat(heartbeatOf(a, 'm', both()), undefined, 1)
    expect(fleet.versionFor('m', inside, 1)).toBe(5)
    const record = fleet.record('a')
    if (!record) throw new Error('no record')
    const restored = new FleetState()
    restored.restore(structuredClone(record))
    expect(restored.versionFor('m', inside, 2)).toBe(5)
    const { trials: _, ...older } = record
    const fromBefore = new FleetState()
    fromBefore.restore(older)
    expect(fromBefore.versionFor('m', inside, 2)).toBe(4)
    fleet.heartbeat(heartbeatOf(b, 'm', both()), 4, 2)
    expect(fleet.versionFor('m', inside, 2)).toBe(4)
  })
})

describe('a prompt whose beginning a node has cached', () => {
  const c = { id: 'c', url: 'http://127.0.0.1:3' }
  const [k1, k2, k3] = ['1', '2', '3'].map((digit) => digit.repeat(16)) as [string, string, string]
  const held = (version: number, ...keys: string[]) => ({ prefixes: [{ version, keys }] })
  const three = (prefixes: Partial<Heartbeat>[], fleet = new FleetState()) => {
    for (const [index, node] of [a, b, c].entries())
      fleet.heartbeat(heartbeatOf(node, 'm', { prefixes: [], ...prefixes[index] }), 0, 0)
    return fleet
  }
  let asked = 0
  const nodeFor = (fleet: FleetState, prefix: string[], nowMs = 1, changes: object = {}) => {
    const acquired = fleet.acquire(ask(`prefixed-${asked++}`, { prefix, ...changes }), nowMs)
    return acquired.ok ? acquired.nodeId : acquired.reason
  }

  test('goes to the node that has the longest of it', () => {
    const fleet = three([held(0, k1, k2), {}, held(0, k1)])
    expect([nodeFor(fleet, [k1, k2, k3]), nodeFor(fleet, [k1]), nodeFor(fleet, [k2, k3])]).toEqual([
      'a',
      expect.stringMatching(/a|c/),
      'a',
    ])
    // The longest that is held implies the shorter ones.
    expect(nodeFor(three([{}, held(0, k3), {}]), [k1, k2, k3])).toBe('b')
  })

  test('goes where one like it was just placed, until that is too long ago or the node failed', () => {
    const fleet = three([])
    const first = nodeFor(fleet, [k1, k2])
    const others = () => Array.from({ length: 3 }, () => nodeFor(fleet, [k1, k3]))
    expect(others()).toEqual([first, first, first])
    const beat = (nowMs: number) => {
      for (const node of [a, b, c]) fleet.heartbeat(heartbeatOf(node, 'm', { prefixes: [] }), 0, nowMs)
    }
    beat(2_000)
    expect(nodeFor(fleet, [k1], 2_001)).toBe(first)
    fleet.fail({ requestId: 'none', nodeId: first, how: 'broke' }, 2_002)
    beat(2_003)
    const after = Array.from({ length: 3 }, (_, index) => nodeFor(fleet, [String(index).repeat(16)], 2_004))
    expect(new Set(after).size).toBe(3)
    beat(20_000)
    const later = [k1, k2, k3].map((key) => nodeFor(fleet, [key], 20_001))
    expect(new Set(later).size).toBe(3)
  })

  test('spills over when that node has more requests than the bound above the least loaded one', () => {
    const fleet = three([held(0, k1), {}, {}])
    const picked = Array.from({ length: 12 }, () => nodeFor(fleet, [k1]))
    const { spillover } = DEFAULT_POLICY
    expect(picked.slice(0, spillover + 1)).toEqual(Array.from({ length: spillover + 1 }, () => 'a'))
    expect(new Set(picked)).toEqual(new Set(['a', 'b', 'c']))
    // Whoever it spilled to has it by then too, and nobody is left idle beside a node that is busy.
    const leases = fleet.snapshot(1).nodes.map((node) => node.leases)
    expect(Math.max(...leases) - Math.min(...leases)).toBeLessThanOrEqual(spillover + 1)
  })

  test('never goes to a node that is full, or has it of other weights', () => {
    const load = { running: 0, waiting: 2, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    const fleet = three([{ ...held(0, k1), load }, held(1, k1), held(0, k1)])
    for (let turn = 0; turn < 2; turn += 1) fleet.acquire(ask(`busy-${turn}`, { exclude: ['b', 'c'] }), 1)
    expect(nodeFor(fleet, [k1])).toBe('c')
  })

  test('is where its canary has it, for a key that one answers', () => {
    const trials = { canary: { version: 5, share: 1 } }
    const both = {
      weightSets: [0, 5].map((version) => ({ version, state: 'ready' as const, requests: 0 })),
    }
    const fleet = new FleetState()
    for (const [index, node] of [a, b, c].entries())
      fleet.heartbeat(heartbeatOf(node, 'm', { ...both, ...held(index === 1 ? 5 : 0, k1) }), 0, 0, trials)
    expect(nodeFor(fleet, [k1], 1, { account: 'any' })).toBe('b')
  })

  test('says nothing of a node without a cache, is bounded, and is not stored', () => {
    const fleet = new FleetState()
    for (const node of [a, b, c]) fleet.heartbeat(heartbeatOf(node, 'm'), 0, 0)
    expect(new Set(Array.from({ length: 3 }, () => nodeFor(fleet, [k1]))).size).toBe(3)

    const cached = three([])
    const keys = Array.from({ length: 600 }, (_, index) => String(index).padStart(16, '0'))
    const places = keys.map((key) => nodeFor(cached, [key]))
    const again = (index: number) => cached.acquire(ask('again', { prefix: [keys[index]] }), 2)
    expect(again(599)).toMatchObject({ nodeId: places[599] })
    expect(cached.record('a')?.heartbeat).not.toHaveProperty('prefixes')
  })
})

describe('acquire', () => {
  test('spreads requests over equal nodes before any heartbeat tells of them', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.heartbeat(heartbeatOf(b, 'm'), 0, 0)
    const nodes = Array.from({ length: 6 }, (_, index) => fleet.acquire(ask(`request-${index}`), 1))
    expect(nodes.filter((node) => node.ok && node.nodeId === 'a')).toHaveLength(3)
    expect(fleet.snapshot(1).nodes.map(({ leases }) => leases)).toEqual([3, 3])
  })

  test('names the url and the version that new requests start on', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', ready(4)), 4, 0)
    expect(fleet.acquire(ask('request-1'), 0)).toEqual({ ok: true, nodeId: 'a', url: a.url, maskVersion: 4 })
  })

  test('leaves out a node on an old version as soon as another one is on the desired one', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', ready(1)), 1, 0)
    fleet.heartbeat(heartbeatOf(b, 'm', ready(1)), 2, 1)
    expect(fleet.acquire(ask('request-1'), 1).ok).toBe(true)
    fleet.heartbeat(heartbeatOf(b, 'm', ready(2)), 2, 2)
    for (let index = 2; index < 8; index += 1) {
      expect(fleet.acquire(ask(`request-${index}`), 2)).toMatchObject({ nodeId: 'b', maskVersion: 2 })
    }
  })

  test('leaves out a node whose active weights are not ready', () => {
    const fleet = new FleetState()
    fleet.heartbeat(
      heartbeatOf(a, 'm', { weightSets: [{ version: 0, state: 'loading', requests: 0 }] }),
      0,
      0,
    )
    expect(fleet.acquire(ask('request-1'), 0)).toMatchObject({
      ok: false,
      reason: 'absent',
      servedModels: ['m'],
    })
  })

  test('leaves out a node after three missed heartbeats, until the next', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    expect(fleet.acquire(ask('request-1'), ALIVE_MS - 1).ok).toBe(true)
    expect(fleet.acquire(ask('request-2'), ALIVE_MS)).toMatchObject({
      ok: false,
      reason: 'absent',
      servedModels: [],
    })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, ALIVE_MS + 1)
    expect(fleet.acquire(ask('request-3'), ALIVE_MS + 1).ok).toBe(true)
  })

  test('leaves out a node that broke until its next heartbeat, and not one that answered an error', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 1)
    fleet.fail({ requestId: 'request-1', nodeId: 'a', how: 'refused' }, 2)
    expect(fleet.acquire(ask('request-2'), 2).ok).toBe(true)
    fleet.fail({ requestId: 'request-2', nodeId: 'a', how: 'broke' }, 3)
    expect(fleet.acquire(ask('request-3'), 3).ok).toBe(false)
    expect(fleet.snapshot(3).nodes[0]).toMatchObject({ alive: false, leases: 0 })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 4)
    expect(fleet.acquire(ask('request-3'), 4).ok).toBe(true)
  })

  test('leaves out a node that the request failed on, until that is heard of again while it waits', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    const again = ask('request-1.2', { exclude: ['a'] })
    expect(fleet.acquire(again, 5, 5)).toMatchObject({ ok: false, reason: 'full' })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 6)
    expect(fleet.acquire(again, 7, 5).ok).toBe(true)
  })

  test('gives a node twice its slots, batch requests no more than its slots, and nothing after it refused', () => {
    const fleet = new FleetState()
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 2 }
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 0)
    for (const id of ['batch-1', 'batch-2']) fleet.acquire(ask(id, { priority: 'batch' }), 1)
    expect(fleet.acquire(ask('batch-3', { priority: 'batch' }), 1)).toMatchObject({ reason: 'full' })
    for (const id of ['request-1', 'request-2']) expect(fleet.acquire(ask(id), 1).ok).toBe(true)
    expect(fleet.acquire(ask('request-3'), 1)).toMatchObject({ ok: false, reason: 'full' })
    fleet.release(['request-1'])
    expect(fleet.acquire(ask('request-3'), 1).ok).toBe(true)
    fleet.fail({ requestId: 'request-3', nodeId: 'a', how: 'full' }, 2)
    expect(fleet.acquire(ask('request-4'), 2)).toMatchObject({ ok: false, reason: 'full' })
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 3)
    expect(fleet.acquire(ask('request-4'), 3).ok).toBe(true)
  })

  test('takes what a node reports for true when leases outlived their requests', () => {
    const fleet = new FleetState()
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 0)
    for (const id of ['request-1', 'request-2']) fleet.acquire(ask(id), 1)
    expect(fleet.acquire(ask('request-3'), 1).ok).toBe(false)
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 2)
    expect(fleet.acquire(ask('request-3'), 2).ok).toBe(true)
  })

  test('asked again for the same attempt leaves no second lease', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.heartbeat(heartbeatOf(b, 'm'), 0, 0)
    for (let turn = 0; turn < 4; turn += 1) fleet.acquire(ask('request-1', { tenant: 't' }), 1)
    const leases = fleet.snapshot(1).nodes.map((node) => node.leases)
    expect(leases.reduce((sum, count) => sum + count, 0)).toBe(1)
    expect(fleet.running('t')).toBe(1)
  })

  test('gives a node whose breaker is open nothing, tells when it will, and then lets one request try', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    for (const id of ['request-1', 'request-2', 'request-3']) {
      fleet.acquire(ask(id), 1)
      fleet.fail({ requestId: id, nodeId: 'a', how: 'failed' }, 1)
    }
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(fleet.acquire(ask('request-4'), 2)).toMatchObject({
      ok: false,
      reason: 'absent',
      retryAfterMs: 999,
    })
    expect(fleet.acquire(ask('request-4'), 1_001).ok).toBe(true)
    expect(fleet.acquire(ask('request-5'), 1_001).ok).toBe(false)
    fleet.succeeded('request-4', 1_002)
    expect(fleet.acquire(ask('request-5'), 1_002).ok).toBe(true)
  })

  test('tells an unknown model from one without a free node', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true }), 0, 0)
    expect(fleet.acquire(ask('request-1'), 0)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.acquire(ask('request-1', { model: 'x' }), 0)).toMatchObject({
      ok: false,
      reason: 'unknown',
      servedModels: ['m'],
    })
  })
})

describe('a drained node', () => {
  test('takes no new requests over heartbeats and a restart, keeps those it has, and takes them again', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    expect(fleet.acquire(ask('request-1'), 0).ok).toBe(true)
    expect([fleet.drain('a', true), fleet.drain('nobody', true)]).toEqual([true, false])
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 1)
    expect(fleet.acquire(ask('request-2'), 1)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.look('request-1', 1)).toBeDefined()
    expect(fleet.snapshot(1).nodes).toMatchObject([
      { alive: true, draining: true, drainedByOperator: true, serving: false, leases: 1 },
    ])
    const restarted = new FleetState()
    restarted.restore(fleet.record('a')!)
    expect(restarted.acquire(ask('request-2'), 1).ok).toBe(false)
    expect(restarted.isDrained('a')).toBe(true)
    restarted.drain('a', false)
    restarted.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(restarted.acquire(ask('request-2'), 2)).toMatchObject({ ok: true, nodeId: 'a' })
  })

  test('leaves its share to the others, and does not make those that wait hope for its slots', () => {
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096, slots: 1 }
    const fleet = new FleetState()
    for (const node of [a, b]) fleet.heartbeat(heartbeatOf(node, 'm', { load }), 0, 0)
    fleet.acquire(ask('request-1'), 0)
    fleet.succeeded('request-1', 1_000)
    fleet.release(['request-1'])
    const together = fleet.waitMs('m', 4, 1_000)
    fleet.drain('a', true)
    expect(fleet.waitMs('m', 4, 1_000)).toBe(2 * together)
    expect(fleet.acquire(ask('request-2'), 1_000)).toMatchObject({ ok: true, nodeId: 'b' })
  })

  test('that left and was started again takes requests', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.drain('a', true)
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true, leaving: true }), 0, 1)
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(fleet.acquire(ask('request-1'), 2).ok).toBe(true)
  })
})

describe('heartbeats', () => {
  test('without a desired version renew nodes that are known with these weights, and no other', () => {
    const fleet = new FleetState()
    expect(fleet.heartbeat(heartbeatOf(a, 'm'), undefined, 0)).toBe(false)
    expect(fleet.snapshot(0).nodes).toEqual([])
    fleet.heartbeat(heartbeatOf(a, 'm', ready(3)), 3, 0)
    expect(fleet.heartbeat(heartbeatOf(a, 'm', ready(3)), undefined, ALIVE_MS)).toBe(true)
    expect(fleet.acquire(ask('request-1'), ALIVE_MS)).toMatchObject({ ok: true, maskVersion: 3 })
    const other = heartbeatOf(a, 'm')
    other.model.baseSha256 = 'b'.repeat(64)
    expect(fleet.heartbeat(other, undefined, ALIVE_MS + 1)).toBe(false)
  })

  test('that name a request tell how it is, and what it is settled with when its node dies', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 1_000)
    expect(fleet.look('request-1', 1_500)).toMatchObject({
      named: false,
      silent: false,
      heardAfterMs: -1_000,
    })
    const progress = { requestId: 'request-1', promptTokens: 20, completionTokens: 4, idleMs: 500 }
    fleet.heartbeat(heartbeatOf(a, 'm', { requests: [progress] }), 0, 2_000)
    expect(fleet.look('request-1', 2_100)).toEqual({
      silent: false,
      named: true,
      heardAfterMs: 1_000,
      idleMs: 600,
      completionTokens: 4,
    })
    expect(fleet.look('request-1', 2_000 + ALIVE_MS)).toMatchObject({ silent: true })
    fleet.expire(2_000 + DEAD_MS - 1)
    expect(fleet.expire(2_000 + DEAD_MS).leases).toMatchObject([{ promptTokens: 20, completionTokens: 4 }])
    expect(fleet.look('request-2', 2_000)).toBeUndefined()
  })

  test('of a node that leaves end its leases at once, and it is forgotten', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 1)
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true, leaving: true }), 0, 2)
    expect(fleet.acquire(ask('request-2'), 2)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.mayReturn('m', 2)).toBe(false)
    expect(fleet.expire(3).leases).toMatchObject([{ requestId: 'request-1' }])
    fleet.release(['request-1'])
    expect(fleet.expire(3)).toEqual({ leases: [], forgotten: ['a'] })
  })

  test('a stream that was cut keeps its lease, to be settled, and its node takes nothing until its next heartbeat', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 1)
    fleet.fail({ requestId: 'request-1', nodeId: 'a', how: 'cut' }, 2)
    expect(fleet.isLeased('request-1')).toBe(true)
    expect(fleet.acquire(ask('request-2'), 2).ok).toBe(false)
  })
})

test('a node serves while it is alive, does not drain, and its active weights are ready', () => {
  const states = [ready(1), { ...ready(1), activeVersion: 2 }, { ...ready(1), draining: true }]
  for (const [index, state] of states.entries()) {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', state), 1, 0)
    expect(fleet.snapshot(0).nodes[0]).toMatchObject({ alive: true, serving: index === 0 })
    expect(fleet.snapshot(ALIVE_MS).nodes[0]?.serving).toBe(false)
    expect(fleet.acquire(ask('request-1'), 0).ok).toBe(index === 0)
  }
})

describe('leases', () => {
  test('end with their release, once', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 0)
    fleet.release(['request-1', 'never-seen'])
    fleet.release(['request-1'])
    expect(fleet.snapshot(0).nodes[0]?.leases).toBe(0)
    expect(fleet.expire(LEASE_MS).leases).toEqual([])
  })

  test('expire without progress, holding what they are settled with', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('still'), 0)
    fleet.acquire(ask('moving'), 0)
    const moving = { requestId: 'moving', promptTokens: 9, completionTokens: 3, idleMs: 0 }
    for (let atMs = 2_000; atMs <= LEASE_MS; atMs += 2_000) {
      fleet.heartbeat(
        heartbeatOf(a, 'm', { requests: [moving, { ...moving, requestId: 'never-seen' }] }),
        0,
        atMs,
      )
    }
    const { leases } = fleet.expire(LEASE_MS)
    expect(leases).toEqual([
      {
        requestId: 'still',
        nodeId: 'a',
        model: 'm',
        domain: 'default',
        maskVersion: 0,
        promptTokens: 7,
        completionTokens: 0,
        acquiredAtMs: 0,
        named: false,
        progressAtMs: 0,
        expiresAtMs: LEASE_MS,
      },
    ])
    expect(fleet.snapshot(LEASE_MS).nodes[0]?.leases).toBe(2)
    fleet.release(['still'])
    expect(fleet.expire(LEASE_MS)).toEqual({ leases: [], forgotten: [] })
  })

  test('of a dead node expire early, and the node is forgotten later', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(ask('request-1'), 0)
    expect(fleet.expire(DEAD_MS - 1)).toEqual({ leases: [], forgotten: [] })
    expect(fleet.expire(DEAD_MS).leases.map(({ requestId }) => requestId)).toEqual(['request-1'])
    expect(fleet.expire(FORGET_MS).forgotten).toEqual([])
    fleet.release(['request-1'])
    expect(fleet.expire(FORGET_MS)).toEqual({ leases: [], forgotten: ['a'] })
    expect(fleet.empty).toBe(true)
  })

  test('outlive a time in which the fleet itself heard nobody, and expire when their node is silent after it too', () => {
    const asleep = new FleetState()
    asleep.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    asleep.acquire(ask('request-1'), 0)
    const record = asleep.record('a')
    if (!record) throw new Error('nothing was recorded')
    const restarted = new FleetState()
    restarted.restore(structuredClone(record))
    for (const fleet of [asleep, restarted]) {
      const wakesMs = 10 * LEASE_MS
      expect(fleet.expire(wakesMs).leases).toEqual([])
      expect(fleet.expire(wakesMs + DEAD_MS - 1).leases).toEqual([])
      expect(fleet.expire(wakesMs + DEAD_MS).leases.map(({ requestId }) => requestId)).toEqual(['request-1'])
    }
  })
})

test('what is recorded of a node restores it with its leases', () => {
  const fleet = new FleetState()
  fleet.heartbeat(heartbeatOf(a, 'm', ready(2)), 2, 1_000)
  fleet.acquire(ask('request-1'), 1_500)
  const record = fleet.record('a')
  if (!record) throw new Error('nothing was recorded')
  const restored = new FleetState()
  restored.restore(structuredClone(record))
  expect(restored.snapshot(2_000)).toEqual(fleet.snapshot(2_000))
  expect(restored.acquire(ask('request-2'), 2_000)).toEqual({
    ok: true,
    nodeId: 'a',
    url: a.url,
    maskVersion: 2,
  })
  restored.release(['request-1'])
  expect(restored.snapshot(2_000).nodes[0]?.leases).toBe(1)
})
