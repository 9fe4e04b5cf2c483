import { describe, expect, test } from 'vitest'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, b } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

describe('a drained node', () => {
  test('gets no new requests, also after heartbeats and a restart of the fleet, keeps its own, and gets new ones after it is undrained', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    expect(fleet.acquire(acquireRequest('request-1'), 0).ok).toBe(true)
    expect([fleet.nodes.drain('a', true), fleet.nodes.drain('nobody', true)]).toEqual([true, false])
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 1)
    expect(fleet.acquire(acquireRequest('request-2'), 1)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.leaseView('request-1', 1)).toBeDefined()
    expect(fleet.nodes.snapshot(1).nodes).toMatchObject([
      { alive: true, draining: true, drainedByOperator: true, serving: false, leases: 1 },
    ])
    const restarted = new FleetState()
    restarted.restore(fleet.nodes.record('a')!)
    expect(restarted.acquire(acquireRequest('request-2'), 1).ok).toBe(false)
    expect(restarted.nodes.isDrained('a')).toBe(true)
    restarted.nodes.drain('a', false)
    restarted.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(restarted.acquire(acquireRequest('request-2'), 2)).toMatchObject({ ok: true, nodeId: 'a' })
  })

  test('leaves its requests to other nodes, and its slots do not count in wait estimates', () => {
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096, slots: 1 }
    const fleet = new FleetState()
    for (const node of [a, b]) fleet.heartbeat(heartbeatOf(node, 'm', { load }), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 0)
    fleet.succeeded('request-1', 1_000)
    fleet.release(['request-1'])
    const together = fleet.estimateWaitMs({ model: 'm' }, 4, 1_000)
    fleet.nodes.drain('a', true)
    expect(fleet.estimateWaitMs({ model: 'm' }, 4, 1_000)).toBe(2 * together)
    expect(fleet.acquire(acquireRequest('request-2'), 1_000)).toMatchObject({ ok: true, nodeId: 'b' })
  })

  test('that shut down and restarted gets requests', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.nodes.drain('a', true)
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true, leaving: true }), 0, 1)
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 2)
    expect(fleet.acquire(acquireRequest('request-1'), 2).ok).toBe(true)
  })

  test('that was killed and restarted gets requests; one that was only silent does not', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', { process: 'first' }), 0, 0)
    fleet.nodes.drain('a', true)
    const record = fleet.nodes.record('a')
    if (!record) throw new Error('no record')
    const restored = new FleetState()
    restored.restore(structuredClone(record))
    for (const each of [fleet, restored]) {
      each.heartbeat(heartbeatOf(a, 'm', { process: 'first' }), 0, 60_000)
      expect(each.acquire(acquireRequest('request-1'), 60_000).ok).toBe(false)
      each.heartbeat(heartbeatOf(a, 'm', { process: 'second' }), 0, 60_001)
      expect([each.nodes.isDrained('a'), each.acquire(acquireRequest('request-2'), 60_001).ok]).toEqual([
        false,
        true,
      ])
    }
  })
})
