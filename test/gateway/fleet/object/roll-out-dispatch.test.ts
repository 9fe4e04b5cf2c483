import { describe, expect, test } from 'vitest'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import { a, acquireRequest, b, readyWeightSets } from '../../support/state/fleet-state.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

const conversation = { model: 'm', conversation: 'one', domain: 'default' }

/** Returns a fleet of two nodes that are heard in this order; the last one tells the desired state. */
function fleetOf(versions: readonly [number, number], trials: { replaced?: number }) {
  const fleet = new FleetState()
  for (const [at, node] of [a, b].entries())
    fleet.heartbeat(heartbeatOf(node, 'm', readyWeightSets(versions[at] ?? 0)), 5, at, trials)
  return fleet
}

describe('while m5 replaces m4', () => {
  test('nodes with either serve, and each lease names the version of its node', () => {
    const fleet = fleetOf([4, 5], { replaced: 4 })
    const leases = [1, 2, 3, 4].map((at) => fleet.acquire(acquireRequest(`request-${at}`), 2))
    expect(new Set(leases.map((lease) => lease.ok && `${lease.nodeId} m${lease.maskVersion}`))).toEqual(
      new Set(['a m4', 'b m5']),
    )
  })

  test('cached responses are those of m4 until a node serves m5', () => {
    expect(fleetOf([4, 4], { replaced: 4 }).versionFor(conversation, 2)).toBe(4)
    expect(fleetOf([4, 5], { replaced: 4 }).versionFor(conversation, 2)).toBe(5)
  })

  test('a gateway that restarts goes on with both', () => {
    const restored = new FleetState()
    const before = fleetOf([4, 5], { replaced: 4 })
    for (const id of ['a', 'b']) {
      const record = before.nodes.record(id)
      if (record) restored.restore(structuredClone(record))
    }
    const leases = [1, 2].map((at) => restored.acquire(acquireRequest(`request-${at}`), 2))
    expect(new Set(leases.map((lease) => lease.ok && lease.maskVersion))).toEqual(new Set([4, 5]))
  })
})

test('after the roll-out a node that still serves m4 gets no requests', () => {
  const fleet = fleetOf([4, 5], {})
  for (const at of [1, 2, 3])
    expect(fleet.acquire(acquireRequest(`request-${at}`), 2)).toMatchObject({ nodeId: 'b', maskVersion: 5 })
})
