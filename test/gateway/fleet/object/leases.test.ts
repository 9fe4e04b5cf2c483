import { describe, expect, test } from 'vitest'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import { FleetState, FORGET_MS } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, readyWeightSets } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const { silentMs: ALIVE_MS, deadMs: DEAD_MS, leaseMs: LEASE_MS, connectMs: CONNECT_MS } = DEFAULT_POLICY

describe('heartbeats', () => {
  test('without a desired version renew only nodes that are known with the same weights', () => {
    const fleet = new FleetState()
    expect(fleet.heartbeat(heartbeatOf(a, 'm'), undefined, 0)).toBe(false)
    expect(fleet.nodes.snapshot(0).nodes).toEqual([])
    fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(3)), 3, 0)
    expect(fleet.heartbeat(heartbeatOf(a, 'm', readyWeightSets(3)), undefined, ALIVE_MS)).toBe(true)
    expect(fleet.acquire(acquireRequest('request-1'), ALIVE_MS)).toMatchObject({ ok: true, maskVersion: 3 })
    const other = heartbeatOf(a, 'm')
    other.model.baseSha256 = 'b'.repeat(64)
    expect(fleet.heartbeat(other, undefined, ALIVE_MS + 1)).toBe(false)
  })

  test('that list a request update its progress, and the usage to settle if its node dies', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 1_000)
    expect(fleet.leaseView('request-1', 1_500)).toMatchObject({ state: 'sent', silent: false })
    const progress = { requestId: 'request-1', promptTokens: 20, completionTokens: 4, idleMs: 500 }
    fleet.heartbeat(heartbeatOf(a, 'm', { requests: [progress] }), 0, 2_000)
    expect(fleet.leaseView('request-1', 2_100)).toEqual({
      silent: false,
      state: 'taken',
      idleMs: 600,
      firstTokenWaitMs: 0,
    })
    expect(fleet.leaseView('request-1', 2_000 + ALIVE_MS)).toMatchObject({ silent: true })
    fleet.expire(2_000 + DEAD_MS - 1)
    expect(fleet.expire(2_000 + DEAD_MS).leases).toMatchObject([{ promptTokens: 20, completionTokens: 4 }])
    expect(fleet.leaseView('request-2', 2_000)).toBeUndefined()
  })

  test('count the time without a token from when the request began to run on its node', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 0)
    const tell = (atMs: number, changes: object) => {
      const progress = {
        requestId: 'request-1',
        promptTokens: 20,
        completionTokens: 0,
        idleMs: 0,
        ...changes,
      }
      fleet.heartbeat(heartbeatOf(a, 'm', { requests: [progress] }), 0, atMs)
      return fleet.leaseView('request-1', atMs + 1_000)?.firstTokenWaitMs
    }
    expect(tell(90_000, {})).toBe(0)
    expect(tell(92_000, { firstTokenWaitMs: 500 })).toBe(1_500)
    expect(tell(94_000, { completionTokens: 1 })).toBe(0)
  })

  test('that do not list a request mark it missing only if composed long enough after its lease', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 1)
    // The first heartbeat may have been sent before the lease, even if it arrives late.
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, CONNECT_MS)
    expect(fleet.leaseView('request-1', CONNECT_MS)).toMatchObject({ state: 'sent' })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, CONNECT_MS + 1)
    expect(fleet.leaseView('request-1', CONNECT_MS + 1)).toMatchObject({ state: 'sent' })
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, CONNECT_MS + 2)
    expect(fleet.leaseView('request-1', CONNECT_MS + 2)).toMatchObject({ state: 'missing' })
    const progress = { requestId: 'request-1', promptTokens: 7, completionTokens: 0, idleMs: 0 }
    fleet.heartbeat(heartbeatOf(a, 'm', { requests: [progress] }), 0, CONNECT_MS + 3)
    expect(fleet.leaseView('request-1', CONNECT_MS + 3)).toMatchObject({ state: 'taken' })
  })

  test('of a new process mark the requests of the old one missing that it does not report', () => {
    const fleet = new FleetState()
    const beat = (process: string, requests: string[], atMs: number) => {
      const progress = (requestId: string) => ({
        requestId,
        promptTokens: 7,
        completionTokens: 1,
        idleMs: 0,
      })
      fleet.heartbeat(heartbeatOf(a, 'm', { process, requests: requests.map(progress) }), 0, atMs)
    }
    beat('old', [], 0)
    for (const id of ['request-1', 'request-2']) fleet.acquire(acquireRequest(id), 1)
    beat('old', ['request-1', 'request-2'], 10_000)
    // It may have reached the new process already.
    beat('new', [], 12_000)
    expect(fleet.leaseView('request-1', 12_000)).toMatchObject({ state: 'sent' })
    for (const atMs of [12_000 + CONNECT_MS, 12_001 + CONNECT_MS]) beat('new', ['request-2'], atMs)
    expect(fleet.leaseView('request-1', 12_001 + CONNECT_MS)).toMatchObject({ state: 'missing' })
    expect(fleet.leaseView('request-2', 12_001 + CONNECT_MS)).toMatchObject({ state: 'taken' })
  })

  test('of a node that shuts down end its leases at once, and it is forgotten', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 1)
    fleet.heartbeat(heartbeatOf(a, 'm', { draining: true, leaving: true }), 0, 2)
    expect(fleet.acquire(acquireRequest('request-2'), 2)).toMatchObject({ ok: false, reason: 'absent' })
    expect(fleet.nodes.mayReturn('m', 2)).toBe(false)
    expect(fleet.expire(3).leases).toMatchObject([{ requestId: 'request-1' }])
    fleet.release(['request-1'])
    expect(fleet.expire(3)).toEqual({ leases: [], forgotten: ['a'] })
  })

  test('a stream that was cut keeps its lease to be settled, and its node gets no request until its next heartbeat', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 1)
    fleet.fail({ requestId: 'request-1', nodeId: 'a', how: 'cut' }, 2)
    expect(fleet.leaseOf('request-1')).toMatchObject({ nodeId: 'a' })
    expect(fleet.acquire(acquireRequest('request-2'), 2).ok).toBe(false)
  })
})

describe('leases', () => {
  test('end with their release, once', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 0)
    fleet.release(['request-1', 'never-seen'])
    fleet.release(['request-1'])
    expect(fleet.nodes.snapshot(0).nodes[0]?.leases).toBe(0)
    expect(fleet.expire(LEASE_MS).leases).toEqual([])
  })

  test('expire without progress, with the usage to settle', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('still'), 0)
    fleet.acquire(acquireRequest('moving'), 0)
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
    expect(fleet.nodes.snapshot(LEASE_MS).nodes[0]?.leases).toBe(2)
    fleet.release(['still'])
    expect(fleet.expire(LEASE_MS)).toEqual({ leases: [], forgotten: [] })
  })

  test('of a dead node expire early, and the node is forgotten later', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('request-1'), 0)
    expect(fleet.expire(DEAD_MS - 1)).toEqual({ leases: [], forgotten: [] })
    expect(fleet.expire(DEAD_MS).leases.map(({ requestId }) => requestId)).toEqual(['request-1'])
    expect(fleet.expire(FORGET_MS).forgotten).toEqual([])
    fleet.release(['request-1'])
    expect(fleet.expire(FORGET_MS)).toEqual({ leases: [], forgotten: ['a'] })
    expect(fleet.nodes.size).toBe(0)
  })

  test('of a process that was killed expire as early when its node is back at once, those that the new one names do not', () => {
    const fleet = new FleetState()
    const beat = (process: string, requestIds: string[], atMs: number) => {
      const requests = requestIds.map((requestId) => ({
        requestId,
        promptTokens: 9,
        completionTokens: 3,
        idleMs: 0,
      }))
      fleet.heartbeat(heartbeatOf(a, 'm', { process, requests }), 0, atMs)
    }
    beat('first', [], 0)
    for (const id of ['lost', 'arrived']) fleet.acquire(acquireRequest(id), 0)
    beat('first', ['lost'], 1_000)
    beat('second', ['arrived'], 2_000)
    for (let atMs = 4_000; atMs < 2_000 + DEAD_MS; atMs += 2_000) {
      beat('second', ['arrived'], atMs)
      expect(fleet.expire(atMs).leases).toEqual([])
    }
    const { leases } = fleet.expire(2_000 + DEAD_MS)
    expect(leases).toMatchObject([{ requestId: 'lost', completionTokens: 3 }])
  })

  test('of a silent node continue while it responds to health checks, and expire afterwards', () => {
    const fleet = new FleetState()
    fleet.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    fleet.acquire(acquireRequest('watched'), 0)
    fleet.acquire(acquireRequest('unwatched'), 0)
    const step = DEAD_MS / 2
    let atMs = step
    for (; atMs <= 2 * LEASE_MS; atMs += step) {
      fleet.touch('watched', atMs)
      const { leases } = fleet.expire(atMs)
      expect(leases.map(({ requestId }) => requestId)).toEqual(atMs === DEAD_MS ? ['unwatched'] : [])
      fleet.release(leases.map(({ requestId }) => requestId))
    }
    expect(fleet.leaseView('watched', atMs)).toMatchObject({ silent: true, idleMs: atMs })
    expect(fleet.expire(atMs).leases).toEqual([])
    expect(fleet.expire(atMs + step).leases).toMatchObject([{ requestId: 'watched' }])
  })

  test('outlive an outage of the fleet itself, and expire if their node is silent after it too', () => {
    const asleep = new FleetState()
    asleep.heartbeat(heartbeatOf(a, 'm'), 0, 0)
    asleep.acquire(acquireRequest('request-1'), 0)
    const record = asleep.nodes.record('a')
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
