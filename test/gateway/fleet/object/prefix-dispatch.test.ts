import { describe, expect, test } from 'vitest'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, b } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

describe('a prompt with a prefix that a node has cached', () => {
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
    const acquired = fleet.acquire(acquireRequest(`prefixed-${asked++}`, { prefix, ...changes }), nowMs)
    return acquired.ok ? acquired.nodeId : acquired.reason
  }

  test('goes to the node with the longest cached prefix', () => {
    const fleet = three([held(0, k1, k2), {}, held(0, k1)])
    expect([nodeFor(fleet, [k1, k2, k3]), nodeFor(fleet, [k1]), nodeFor(fleet, [k2, k3])]).toEqual([
      'a',
      expect.stringMatching(/a|c/),
      'a',
    ])
    // The longest cached prefix implies the shorter ones.
    expect(nodeFor(three([{}, held(0, k3), {}]), [k1, k2, k3])).toBe('b')
  })

  test('goes to the node of a recent similar prompt, until the entry expires or the node fails', () => {
    const fleet = three([])
    const first = nodeFor(fleet, [k1, k2])
    const others = () => Array.from({ length: 3 }, () => nodeFor(fleet, [k1, k3]))
    expect(others()).toEqual([first, first, first])
    /** Ends the earlier requests. */
    const beat = (nowMs: number) => {
      fleet.release(Array.from({ length: asked }, (_, index) => `prefixed-${index}`))
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

  test('goes to the node that still computes the prefix for another request, however long that takes', () => {
    const fleet = three([])
    const running = fleet.acquire(acquireRequest('long', { prefix: [k1, k2] }), 1)
    const home = running.ok ? running.nodeId : ''
    const progress = { requestId: 'long', promptTokens: 0, completionTokens: 0, idleMs: 0 }
    const beat = (nowMs: number, isRunning: boolean) => {
      for (const node of [a, b, c]) {
        const requests = isRunning && node.id === home ? [progress] : []
        fleet.heartbeat(heartbeatOf(node, 'm', { prefixes: [], requests }), 0, nowMs)
      }
    }
    const isHome = (nowMs: number) => {
      const nodeId = nodeFor(fleet, [k1, k2], nowMs)
      fleet.release([`prefixed-${asked - 1}`])
      return nodeId === home
    }
    for (let nowMs = 2_000; nowMs <= 60_000; nowMs += 2_000) beat(nowMs, true)
    expect(isHome(60_001)).toBe(true)
    // It has ended. Without a report the prefix counts as cached for a while, and then as gone.
    beat(62_000, true)
    fleet.release(['long'])
    beat(64_000, false)
    expect(isHome(64_001)).toBe(true)
    const others = [b, a, c].filter(({ id }) => id !== home)
    beat(90_000, false)
    fleet.acquire(acquireRequest('busy', { exclude: others.map(({ id }) => id) }), 90_001)
    expect(isHome(90_002)).toBe(false)
  })

  test('does not go to the node that computed it before it restarted', () => {
    const fleet = three([{ process: 'first' }, { process: 'first' }, { process: 'first' }])
    const running = fleet.acquire(acquireRequest('lost', { prefix: [k1] }), 1)
    const home = running.ok ? running.nodeId : ''
    for (const node of [a, b, c])
      fleet.heartbeat(heartbeatOf(node, 'm', { prefixes: [], process: 'second' }), 0, 1_000)
    // The request that is lost still counts as load there.
    expect(nodeFor(fleet, [k1], 1_001)).not.toBe(home)
  })

  test('spills over when that node has more requests than the bound above the least loaded one', () => {
    const fleet = three([held(0, k1), {}, {}])
    const picked = Array.from({ length: 12 }, () => nodeFor(fleet, [k1]))
    const { spillover } = DEFAULT_POLICY
    expect(picked.slice(0, spillover + 1)).toEqual(Array.from({ length: spillover + 1 }, () => 'a'))
    expect(new Set(picked)).toEqual(new Set(['a', 'b', 'c']))
    // The other node has the prefix by then too, and no node is idle beside a busy one.
    const leases = fleet.nodes.snapshot(1).nodes.map((node) => node.leases)
    expect(Math.max(...leases) - Math.min(...leases)).toBeLessThanOrEqual(spillover + 1)
  })

  test('never goes to a full node, or to one that cached the prefix for other weights', () => {
    const load = { running: 0, waiting: 2, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    const fleet = three([{ ...held(0, k1), load }, held(1, k1), held(0, k1)])
    for (let turn = 0; turn < 2; turn += 1)
      fleet.acquire(acquireRequest(`busy-${turn}`, { exclude: ['b', 'c'] }), 1)
    expect(nodeFor(fleet, [k1])).toBe('c')
  })

  test('goes to the node that cached it for the canary, if the canary serves its key', () => {
    const trials = { canary: { version: 5, share: 1 } }
    const both = {
      weightSets: [0, 5].map((version) => ({ version, state: 'ready' as const, requests: 0 })),
    }
    const fleet = new FleetState()
    for (const [index, node] of [a, b, c].entries())
      fleet.heartbeat(heartbeatOf(node, 'm', { ...both, ...held(index === 1 ? 5 : 0, k1) }), 0, 0, trials)
    expect(nodeFor(fleet, [k1], 1, { account: 'any' })).toBe('b')
  })

  test('has no index entry on a node without a cache, and the index is bounded and not stored', () => {
    const fleet = new FleetState()
    for (const node of [a, b, c]) fleet.heartbeat(heartbeatOf(node, 'm'), 0, 0)
    expect(new Set(Array.from({ length: 3 }, () => nodeFor(fleet, [k1]))).size).toBe(3)

    const cached = three([])
    const keys = Array.from({ length: 600 }, (_, index) => String(index).padStart(16, '0'))
    const places = keys.map((key) => nodeFor(cached, [key]))
    const again = (index: number) =>
      cached.acquire(acquireRequest('again', { prefix: keys.slice(index, index + 1) }), 2)
    expect(again(599)).toMatchObject({ nodeId: places[599] })
    expect(cached.nodes.record('a')?.heartbeat).not.toHaveProperty('prefixes')
  })
})
