import { describe, expect, test } from 'vitest'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, b, readyWeightSets } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const both = (changes: Partial<Heartbeat> = {}) => ({
  activeVersion: 4,
  weightSets: [4, 6].map((version) => ({ version, state: 'ready' as const, requests: 0 })),
  ...changes,
})
const beside = { own: { legal: 6 } }
const ofLegal = (id: string, changes = {}) => acquireRequest(id, { domain: 'legal', ...changes })

describe('a mask of one domain', () => {
  test('serves the requests of that domain, pinned, and neither others nor those that name a version', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, beside)
    expect(fleet.acquire(ofLegal('request-1'), 0)).toMatchObject({ maskVersion: 6, pinned: true })
    const other = fleet.acquire(acquireRequest('request-2', { domain: 'code' }), 0)
    expect(other).toMatchObject({ maskVersion: 4 })
    expect(other).not.toHaveProperty('pinned')
    expect(fleet.acquire(ofLegal('request-3', { version: 4 }), 0)).toMatchObject({ maskVersion: 4 })
    expect(fleet.acquire(acquireRequest('request-4', { domain: 'constructor' }), 0)).toMatchObject({
      maskVersion: 4,
    })
  })

  test('goes before a canary of the shared mask and gets no shadow', () => {
    const fleet = new FleetState()
    const weightSets = [4, 5, 6].map((version) => ({ version, state: 'ready' as const, requests: 0 }))
    const trials = { canary: { version: 5, share: 1 }, shadow: { version: 5, share: 1 }, ...beside }
    fleet.heartbeat(heartbeatOf(a, 'm', both({ weightSets })), 4, 0, trials)
    const request = { account: 'key-1', conversation: 'conversation-1' }
    const own = fleet.acquire(ofLegal('request-1', request), 0)
    expect(own).toMatchObject({ maskVersion: 6 })
    expect(own).not.toHaveProperty('shadow')
    expect(fleet.acquire(acquireRequest('request-2', request), 0)).toMatchObject({ maskVersion: 5 })
  })

  test('is served by a node that holds it; the shared mask serves if none does, or its nodes are full', () => {
    const fleet = new FleetState()
    const version = () => fleet.versionFor({ model: 'm', conversation: 'one', domain: 'legal' }, 1)
    fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(4)), 4, 0, beside)
    expect(version()).toBe(4)
    expect(fleet.acquire(ofLegal('request-1'), 0)).toMatchObject({ nodeId: 'a', maskVersion: 4 })
    const load = { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1, slots: 1 }
    fleet.heartbeat(heartbeatOf(b, 'm', both({ load })), 4, 1, beside)
    expect(version()).toBe(6)
    for (const id of ['request-2', 'request-3'])
      expect(fleet.acquire(ofLegal(id), 1)).toMatchObject({ nodeId: 'b', maskVersion: 6 })
    expect(fleet.acquire(ofLegal('request-4'), 1)).toMatchObject({ nodeId: 'a', maskVersion: 4 })
  })

  test('is left to the shared mask after a failed attempt, and when it is no longer desired', () => {
    const fleet = new FleetState()
    for (const node of [a, b]) fleet.heartbeat(heartbeatOf(node, 'm', both()), 4, 0, beside)
    const first = fleet.acquire(ofLegal('request-1'), 0)
    if (!first.ok) throw new Error('no node')
    fleet.fail({ requestId: 'request-1', nodeId: first.nodeId, how: 'failed' }, 1)
    expect(fleet.acquire(ofLegal('request-1.2', { exclude: [first.nodeId] }), 1)).toMatchObject({
      maskVersion: 4,
    })
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 2)
    expect(fleet.acquire(ofLegal('request-2'), 2)).toMatchObject({ maskVersion: 4 })
  })

  test('is known after a restart of the fleet', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm', both()), 4, 0, beside)
    const restored = new FleetState()
    const record = fleet.nodes.record('a')
    if (record) restored.restore(record)
    expect(restored.acquire(ofLegal('request-1'), 0)).toMatchObject({ maskVersion: 6 })
  })
})
