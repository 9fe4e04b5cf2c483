import { describe, expect, test } from 'vitest'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import type { NodeRecord } from '../../../../gateway/src/fleet/object/fleet-node.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, b, readyWeightSets } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const { silentMs: ALIVE_MS, connectMs: CONNECT_MS } = DEFAULT_POLICY

test('a fleet offers the methods of the alive nodes of a model, and null if there are none', () => {
  const fleet = new FleetState()
  expect(fleet.nodes.offeredMethods('m', 0)).toBeNull()
  fleet.heartbeat(heartbeatOf(a, 'm', { methods: ['wanda', 'copal'] }), 0, 0)
  fleet.heartbeat(heartbeatOf(b, 'other', { methods: ['magnitude'] }), 0, 0)
  expect(fleet.nodes.offeredMethods('m', 1)).toEqual(['copal', 'wanda'])
  fleet.heartbeat(heartbeatOf({ ...b, id: 'c' }, 'm', { methods: ['copal', 'copal+swaps'] }), 0, 2)
  expect(fleet.nodes.offeredMethods('m', 3)).toEqual(['copal', 'copal+swaps', 'wanda'])
  expect(fleet.nodes.offeredMethods('m', ALIVE_MS)).toEqual(['copal', 'copal+swaps'])
  expect(fleet.nodes.offeredMethods('m', 2 + ALIVE_MS)).toBeNull()
})

test('a node offers the methods that its process registered, and none of another process', () => {
  const fleet = new FleetState()
  const { methods, ...renewed } = heartbeatOf(a, 'm', { process: 'first', methods: ['copal'] })
  fleet.heartbeat(renewed, 0, 0)
  expect(fleet.nodes.methodsOf('a')).toBeUndefined()
  expect(fleet.nodes.offeredMethods('m', 0)).toBeNull()
  fleet.heartbeat({ ...renewed, methods }, 0, 1)
  fleet.heartbeat(renewed, 0, 2)
  expect(fleet.nodes.methodsOf('a')).toEqual(['copal'])
  expect(fleet.nodes.offeredMethods('m', 2)).toEqual(['copal'])
  const restored = new FleetState()
  restored.restore(fleet.nodes.record('a') as NodeRecord)
  restored.heartbeat(renewed, 0, 3)
  expect(restored.nodes.methodsOf('a')).toEqual(['copal'])
  restored.heartbeat({ ...renewed, process: 'second' }, 0, 4)
  expect(restored.nodes.methodsOf('a')).toBeUndefined()
})

test('a process that was replaced under its name stays so, also after later restarts of the other and of the fleet', () => {
  const fleet = new FleetState()
  const beat = (process: string) => heartbeatOf(a, 'm', { process })
  for (const [atMs, process] of ['copy', 'second', 'third'].entries()) fleet.heartbeat(beat(process), 0, atMs)
  const restored = new FleetState()
  restored.restore(structuredClone(fleet.nodes.record('a') as NodeRecord))
  for (const each of [fleet, restored]) {
    expect(
      ['copy', 'second', 'third', 'fourth'].map((process) => each.nodes.isReplaced(beat(process))),
    ).toEqual([true, true, false, false])
  }
})

test('the device that a process registered is shown while it runs, and not that of another process', () => {
  const fleet = new FleetState()
  const deviceAt = (nowMs: number) => fleet.nodes.snapshot(nowMs).nodes[0]?.device
  const { device, ...renewed } = heartbeatOf(a, 'm', { process: 'first', device: 'EPYC, 8 threads' })
  fleet.heartbeat({ ...renewed, device }, 0, 0)
  fleet.heartbeat(renewed, 0, 1)
  expect(deviceAt(1)).toBe('EPYC, 8 threads')
  fleet.heartbeat({ ...renewed, process: 'second' }, 0, 2)
  expect(deviceAt(2)).toBeUndefined()
})

describe('acquire', () => {
  test('spreads requests over equal nodes before any heartbeat lists them', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.heartbeat(heartbeatOf(b, 'm'), 0, 0)
    const nodes = Array.from({ length: 6 }, (_, index) =>
      fleet.acquire(acquireRequest(`request-${index}`), 1),
    )
    expect(nodes.filter((node) => node.ok && node.nodeId === 'a')).toHaveLength(3)
    expect(fleet.nodes.snapshot(1).nodes.map(({ leases }) => leases)).toEqual([3, 3])
  })

  test('counts requests that a heartbeat could not list yet, and each listed one once', () => {
    const fleet = new FleetState()
    const beat = (node: typeof a, atMs: number, running: number, requestIds: readonly string[] = []) => {
      const load = { running, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 }
      const requests = requestIds.map((requestId) => ({
        requestId,
        promptTokens: 7,
        completionTokens: 0,
        idleMs: 0,
      }))
      fleet.heartbeat(heartbeatOf(node, 'm', { load, requests }), 0, atMs)
    }
    beat(a, 0, 0)
    beat(b, 0, 9)
    for (const id of ['request-1', 'request-2']) fleet.acquire(acquireRequest(id), 1)
    beat(a, 2, 0)
    beat(b, 2, 1)
    expect(fleet.acquire(acquireRequest('request-3'), 2)).toMatchObject({ nodeId: 'b' })
    beat(a, 3, 2, ['request-1', 'request-2'])
    beat(b, 3, 3, ['request-3'])
    expect(fleet.acquire(acquireRequest('request-4'), 3)).toMatchObject({ nodeId: 'a' })
  })

  test('returns the URL and the version that new requests start on', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(4)), 4, 0)
    expect(fleet.acquire(acquireRequest('request-1'), 0)).toEqual({
      ok: true,
      nodeId: 'a',
      url: a.url,
      maskVersion: 4,
    })
  })

  test('excludes a node with an old version once another node has the desired one', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(1)), 1, 0)
    fleet.heartbeat(heartbeatOf(b, 'm', readyWeightSets(1)), 2, 1)
    expect(fleet.acquire(acquireRequest('request-1'), 1).ok).toBe(true)
    fleet.heartbeat(heartbeatOf(b, 'm', readyWeightSets(2)), 2, 2)
    for (let index = 2; index < 8; index += 1) {
      expect(fleet.acquire(acquireRequest(`request-${index}`), 2)).toMatchObject({
        nodeId: 'b',
        maskVersion: 2,
      })
    }
  })

  test('excludes a node whose active weights are not ready', () => {
    const fleet = new FleetState()
    fleet.heartbeat(
      heartbeatOf(a, 'm', { weightSets: [{ version: 0, state: 'loading', requests: 0 }] }),
      0,
      0,
    )
    expect(fleet.acquire(acquireRequest('request-1'), 0)).toMatchObject({
      ok: false,
      reason: 'absent',
      servedModels: ['m'],
    })
  })

  test('excludes a node after three missed heartbeats, until the next one', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    expect(fleet.acquire(acquireRequest('request-1'), ALIVE_MS - 1).ok).toBe(true)
    expect(fleet.acquire(acquireRequest('request-2'), ALIVE_MS)).toMatchObject({
      ok: false,
      reason: 'absent',
      servedModels: [],
    })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, ALIVE_MS + 1)
    expect(fleet.acquire(acquireRequest('request-3'), ALIVE_MS + 1).ok).toBe(true)
  })

  test('excludes a node whose connection broke until its next heartbeat, but not one that returned an error', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 1)
    fleet.fail({ requestId: 'request-1', nodeId: 'a', how: 'refused' }, 2)
    expect(fleet.acquire(acquireRequest('request-2'), 2).ok).toBe(true)
    fleet.fail({ requestId: 'request-2', nodeId: 'a', how: 'broke' }, 3)
    expect(fleet.acquire(acquireRequest('request-3'), 3).ok).toBe(false)
    expect(fleet.nodes.snapshot(3).nodes[0]).toMatchObject({ alive: false, leases: 0 })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 4)
    expect(fleet.acquire(acquireRequest('request-3'), 4).ok).toBe(true)
  })

  test('makes room for another probe when the client of one has left, whose lease stays to be settled', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    for (const id of ['request-1', 'request-2', 'request-3']) {
      fleet.acquire(acquireRequest(id), 1)
      fleet.fail({ requestId: id, nodeId: 'a', how: 'failed' }, 1)
    }
    const acquire = (id: string) => fleet.acquire(acquireRequest(id), 2_000).ok
    expect([acquire('probe-1'), acquire('probe-2')]).toEqual([true, false])
    fleet.fail({ requestId: 'probe-1', nodeId: 'a', how: 'ended' }, 2_000)
    expect([acquire('probe-2'), fleet.nodes.snapshot(2_000).nodes[0]?.leases]).toEqual([true, 2])
  })

  test('excludes a node that the request failed on until its next heartbeat', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    const again = acquireRequest('request-1.2', { exclude: ['a'] })
    expect(fleet.acquire(again, 5, 5)).toMatchObject({ ok: false, reason: 'full' })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 6)
    expect(fleet.acquire(again, 7, 5).ok).toBe(true)
  })

  test('gives a node at most twice its slots, batch requests its slots, and nothing after it rejected one as full', () => {
    const fleet = new FleetState()
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 2 }
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 0)
    for (const id of ['batch-1', 'batch-2']) fleet.acquire(acquireRequest(id, { priority: 'batch' }), 1)
    expect(fleet.acquire(acquireRequest('batch-3', { priority: 'batch' }), 1)).toMatchObject({
      reason: 'full',
    })
    for (const id of ['request-1', 'request-2']) expect(fleet.acquire(acquireRequest(id), 1).ok).toBe(true)
    expect(fleet.acquire(acquireRequest('request-3'), 1)).toMatchObject({ ok: false, reason: 'full' })
    fleet.release(['request-1'])
    expect(fleet.acquire(acquireRequest('request-3'), 1).ok).toBe(true)
    fleet.fail({ requestId: 'request-3', nodeId: 'a', how: 'full' }, 2)
    expect(fleet.acquire(acquireRequest('request-4'), 2)).toMatchObject({ ok: false, reason: 'full' })
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 3)
    expect(fleet.acquire(acquireRequest('request-4'), 3).ok).toBe(true)
  })

  test('trusts the report of a node if leases outlived their requests', () => {
    const fleet = new FleetState()
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 0)
    for (const id of ['request-1', 'request-2']) fleet.acquire(acquireRequest(id), 1)
    expect(fleet.acquire(acquireRequest('request-3'), 1).ok).toBe(false)
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 1 + CONNECT_MS)
    expect(fleet.acquire(acquireRequest('request-3'), 1 + CONNECT_MS).ok).toBe(false)
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 2 + CONNECT_MS)
    expect(fleet.acquire(acquireRequest('request-3'), 2 + CONNECT_MS).ok).toBe(true)
  })

  test('keeps a node full when a heartbeat arrives that is older than its requests', () => {
    const fleet = new FleetState()
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 0)
    for (const id of ['request-1', 'request-2']) fleet.acquire(acquireRequest(id), 1)
    fleet.heartbeat(heartbeatOf(a, 'm', { load }), 0, 2)
    expect(fleet.acquire(acquireRequest('request-3'), 2)).toMatchObject({ ok: false, reason: 'full' })
    fleet.release(['request-1'])
    expect(fleet.acquire(acquireRequest('request-3'), 2).ok).toBe(true)
  })

  test('leases once if the same attempt asks again', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.heartbeat(heartbeatOf(b, 'm'), 0, 0)
    for (let turn = 0; turn < 4; turn += 1) fleet.acquire(acquireRequest('request-1', { tenant: 't' }), 1)
    const leases = fleet.nodes.snapshot(1).nodes.map((node) => node.leases)
    expect(leases.reduce((sum, count) => sum + count, 0)).toBe(1)
    expect(fleet.running('t')).toBe(1)
  })

  test('gives a node with an open breaker nothing, returns the retry time, and then sends one probe', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    for (const id of ['request-1', 'request-2', 'request-3']) {
      fleet.acquire(acquireRequest(id), 1)
      fleet.fail({ requestId: id, nodeId: 'a', how: 'failed' }, 1)
    }
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(fleet.acquire(acquireRequest('request-4'), 2)).toMatchObject({
      ok: false,
      reason: 'absent',
      retryAfterMs: 999,
    })
    expect(fleet.acquire(acquireRequest('request-4'), 1_001).ok).toBe(true)
    expect(fleet.acquire(acquireRequest('request-5'), 1_001).ok).toBe(false)
    fleet.succeeded('request-4', 1_002)
    expect(fleet.acquire(acquireRequest('request-5'), 1_002).ok).toBe(true)
  })

  test('gives a node with a half-open breaker more once it reports a token', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    for (const id of ['request-1', 'request-2', 'request-3']) {
      fleet.acquire(acquireRequest(id), 1)
      fleet.fail({ requestId: id, nodeId: 'a', how: 'failed' }, 1)
    }
    expect(fleet.acquire(acquireRequest('request-4'), 1_001).ok).toBe(true)
    const told = (completionTokens: number) => [
      { requestId: 'request-4', promptTokens: 7, completionTokens, idleMs: 0 },
    ]
    fleet.heartbeat(heartbeatOf(a, 'm', { requests: told(0) }), 0, 2_000)
    expect(fleet.acquire(acquireRequest('request-5'), 2_000)).toMatchObject({ ok: false, reason: 'absent' })
    fleet.heartbeat(heartbeatOf(a, 'm', { requests: told(1) }), 0, 4_000)
    expect(fleet.acquire(acquireRequest('request-5'), 4_000).ok).toBe(true)
  })

  test('distinguishes an unknown model from one without a free node', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true }), 0, 0)
    expect(fleet.acquire(acquireRequest('request-1'), 0)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.acquire(acquireRequest('request-1', { model: 'x' }), 0)).toMatchObject({
      ok: false,
      reason: 'unknown',
      servedModels: ['m'],
    })
  })
})

test('a node is serving while it is alive, not draining, and its active weights are ready', () => {
  const states = [
    readyWeightSets(1),
    { ...readyWeightSets(1), activeVersion: 2 },
    { ...readyWeightSets(1), draining: true },
  ]
  for (const [index, state] of states.entries()) {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', state), 1, 0)
    expect(fleet.nodes.snapshot(0).nodes[0]).toMatchObject({ alive: true, serving: index === 0 })
    expect(fleet.nodes.snapshot(ALIVE_MS).nodes[0]?.serving).toBe(false)
    expect(fleet.acquire(acquireRequest('request-1'), 0).ok).toBe(index === 0)
  }
})

test('the record of a node restores it with its leases', () => {
  const fleet = new FleetState()
  fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(2)), 2, 1_000)
  fleet.acquire(acquireRequest('request-1'), 1_500)
  const record = fleet.nodes.record('a')
  if (!record) throw new Error('nothing was recorded')
  const restored = new FleetState()
  restored.restore(structuredClone(record))
  expect(restored.nodes.snapshot(2_000)).toEqual(fleet.nodes.snapshot(2_000))
  expect(restored.acquire(acquireRequest('request-2'), 2_000)).toEqual({
    ok: true,
    nodeId: 'a',
    url: a.url,
    maskVersion: 2,
  })
  restored.release(['request-1'])
  expect(restored.nodes.snapshot(2_000).nodes[0]?.leases).toBe(1)
})
