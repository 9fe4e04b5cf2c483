import { describe, expect, test } from 'vitest'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { isAssigned } from '../../../../gateway/src/fleet/object/trial-assignment.ts'
import { a, acquireRequest, b, readyWeightSets } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const conversationOf = (conversation: string) => ({ model: 'm', conversation, domain: 'default' })

describe('a canary', () => {
  const both = (changes: Partial<Heartbeat> = {}) => ({
    activeVersion: 4,
    weightSets: [4, 5].map((version) => ({ version, state: 'ready' as const, requests: 0 })),
    ...changes,
  })
  const trials = { canary: { version: 5, share: 0.5 } }
  const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`)
  const isIn = (account: string) => isAssigned('canary', trials.canary, 'm', account)
  const inside = keys.find(isIn) ?? ''
  const outside = keys.find((account) => !isIn(account)) ?? ''

  test('serves the keys of its share with a pinned version, and neither other keys nor requests that name a version', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
    for (const account of keys) {
      const expected = isIn(account) ? { maskVersion: 5, pinned: true } : { maskVersion: 4 }
      const { url } = a
      expect(fleet.acquire(acquireRequest(`request of ${account}`, { account }), 0)).toEqual({
        ok: true,
        nodeId: 'a',
        url,
        ...expected,
      })
    }
    expect(keys.filter(isIn).length).toBeGreaterThan(5)
    expect(fleet.acquire(acquireRequest('no key'), 0)).toMatchObject({ maskVersion: 4 })
    for (const version of [4, 5]) {
      const named = fleet.acquire(acquireRequest(`names ${version}`, { account: inside, version }), 0)
      expect(named).toMatchObject({ maskVersion: version })
      expect(named).not.toHaveProperty('pinned')
    }
  })

  test('serves a whole conversation or none of it, and its share of the conversations of a single key', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
    const conversations = Array.from({ length: 200 }, (_, index) => `conversation-${index}`)
    const versionsOf = (conversation: string) =>
      [0, 1, 2].map((turn) => {
        const request = acquireRequest(`${conversation}, turn ${turn}`, { account: 'only key', conversation })
        const acquired = fleet.acquire(request, 0)
        return acquired.ok ? acquired.maskVersion : undefined
      })
    const served = conversations.map((conversation) => new Set(versionsOf(conversation)))
    expect(served.every(({ size }) => size === 1)).toBe(true)
    const inShare = served.filter((versions) => versions.has(5)).length
    expect(inShare).toBeGreaterThan(70)
    expect(inShare).toBeLessThan(130)
    for (const [index, conversation] of conversations.entries())
      expect(fleet.versionFor(conversationOf(conversation), 0)).toBe([...(served[index] ?? [])][0])
  })

  test('is served by a node that holds it; the active mask serves if none does or all of those are full', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(4)), 4, 0, trials)
    expect(fleet.versionFor(conversationOf(inside), 0)).toBe(4)
    expect(fleet.acquire(acquireRequest('request-1', { account: inside }), 0)).toMatchObject({
      maskVersion: 4,
    })
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(b, 'm', both({ load })), 4, 1, trials)
    expect([inside, outside].map((account) => fleet.versionFor(conversationOf(account), 1))).toEqual([5, 4])
    const full = { ...load, running: 2 }
    expect(fleet.acquire(acquireRequest('request-2', { account: inside }), 1)).toMatchObject({
      nodeId: 'b',
      maskVersion: 5,
    })
    fleet.heartbeat(heartbeatOf(a, 'm', { ...readyWeightSets(4), load: full }), 4, 2, trials)
    // Both would let it wait.
    expect(fleet.acquire(acquireRequest('request-3', { account: inside }), 2)).toMatchObject({
      nodeId: 'b',
      maskVersion: 5,
    })
    fleet.heartbeat(heartbeatOf(a, 'm', { ...readyWeightSets(4), load }), 4, 3, trials)
    expect(fleet.acquire(acquireRequest('request-4', { account: inside }), 3)).toMatchObject({
      nodeId: 'a',
      maskVersion: 4,
    })
  })

  const loadOf = (running: number) => ({ running, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 8 })
  /** Returns the mask that a request of the canary's share gets where its only node runs requests, and another one fewer. */
  const servedBeside = (onCanary: number, onOther: number) => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', { ...readyWeightSets(4), load: loadOf(onOther) }), 4, 0, trials)
    fleet.heartbeat(heartbeatOf(b, 'm', both({ load: loadOf(onCanary) })), 4, 0, trials)
    const acquired = fleet.acquire(acquireRequest('request-1', { account: inside }), 0)
    return acquired.ok ? acquired.maskVersion : undefined
  }

  test('lets no request wait for a slot of its node while the active mask has a free one', () => {
    expect(servedBeside(7, 5)).toBe(5)
    expect(servedBeside(8, 7)).toBe(4)
    expect(servedBeside(9, 8)).toBe(5)
  })

  test('leaves requests to the active mask while its node is much busier than others', () => {
    expect(servedBeside(4, 0)).toBe(5)
    expect(servedBeside(5, 0)).toBe(4)
  })

  test('on the first node of a large fleet makes that one no busier than the others', () => {
    const fleet = new FleetState()
    const loadOfNode = { ...loadOf(0), slots: 4 }
    for (let index = 0; index < 20; index += 1) {
      const node = { id: `node-${index}`, url: `http://127.0.0.1:${index + 1}` }
      const sets = index === 0 ? both({ load: loadOfNode }) : { ...readyWeightSets(4), load: loadOfNode }
      fleet.heartbeat(heartbeatOf(node, 'm', sets), 4, 0, { canary: { version: 5, share: 0.2 } })
    }
    // Two of each node's four slots.
    for (let index = 0; index < 40; index += 1)
      fleet.acquire(acquireRequest(`request-${index}`, { account: `key-${index}` }), 0)
    const loads = fleet.nodes.snapshot(0).nodes.map(({ leases }) => leases)
    expect(Math.max(...loads)).toBeLessThanOrEqual(4)
    expect(loads.filter((leases) => leases > 0)).toHaveLength(20)
  })

  test('is not retried after a failure: the active mask serves the request', () => {
    const fleet = new FleetState()
    for (const node of [a, b]) fleet.heartbeat(heartbeatOf(node, 'm', both()), 4, 0, trials)
    const first = fleet.acquire(acquireRequest('request-1', { account: inside }), 0)
    if (!first.ok) throw new Error('no node')
    fleet.fail({ requestId: 'request-1', nodeId: first.nodeId, how: 'failed' }, 1)
    const second = fleet.acquire(
      acquireRequest('request-1.2', { account: inside, exclude: [first.nodeId] }),
      1,
    )
    expect(second).toMatchObject({ ok: true, maskVersion: 4 })
  })

  test('that fails requests does not open the breaker of its node, which serves the active mask', () => {
    const failThree = (account: string) => {
      const fleet = new FleetState()
      fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
      for (const requestId of ['request-1', 'request-2', 'request-3']) {
        expect(fleet.acquire(acquireRequest(requestId, { account }), 0).ok).toBe(true)
        fleet.fail({ requestId, nodeId: 'a', how: 'failed' }, 1)
      }
      return fleet.acquire(acquireRequest('request-4', { account: outside }), 1)
    }
    expect(failThree(inside)).toMatchObject({ ok: true, maskVersion: 4 })
    expect(failThree(outside)).toMatchObject({ ok: false, reason: 'absent' })
  })

  test('comes from the latest heartbeat, and is kept while the database is away and over a restart', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, trials)
    fleet.heartbeat(heartbeatOf(a, 'm', both()), undefined, 1)
    expect(fleet.versionFor(conversationOf(inside), 1)).toBe(5)
    const record = fleet.nodes.record('a')
    if (!record) throw new Error('no record')
    const restored = new FleetState()
    restored.restore(structuredClone(record))
    expect(restored.versionFor(conversationOf(inside), 2)).toBe(5)
    const { trials: _, ...older } = record
    const fromBefore = new FleetState()
    fromBefore.restore(older)
    expect(fromBefore.versionFor(conversationOf(inside), 2)).toBe(4)
    fleet.heartbeat(heartbeatOf(b, 'm', both()), 4, 2)
    expect(fleet.versionFor(conversationOf(inside), 2)).toBe(4)
  })
})
