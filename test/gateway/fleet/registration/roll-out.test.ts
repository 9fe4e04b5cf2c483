import { describe, expect, test } from 'vitest'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { NodeView } from '../../../../gateway/src/contracts/node-view.ts'
import { countWaves, takesPart } from '../../../../gateway/src/fleet/registration/roll-out.ts'

type State = WeightSetState['state'] | 'serving' | 'absent'

/** Returns a node that serves m1, or m2 where that is its state. */
function viewOf(id: string, state: State, changes: Partial<NodeView> = {}): NodeView {
  const set = { version: 2, state: state === 'serving' || state === 'absent' ? ('ready' as const) : state }
  return {
    id,
    url: 'http://127.0.0.1:9',
    model: 'm',
    alive: true,
    draining: false,
    drainedByOperator: false,
    serving: true,
    activeVersion: state === 'serving' ? 2 : 1,
    weightSets: state === 'absent' ? [] : [{ ...set, requests: 0 }],
    running: 0,
    waiting: 0,
    kvTokensUsed: 0,
    kvTokensTotal: 1,
    leases: 0,
    seenMsAgo: 0,
    ...changes,
  }
}

const fleetOf = (...states: State[]) => states.map((state, index) => viewOf(`node-${index + 1}`, state))
const partOf = (nodes: NodeView[]) => nodes.filter(({ id }) => takesPart(id, nodes, 2)).map(({ id }) => id)

describe('a roll-out', () => {
  test.each([
    [1, [1]],
    [2, [1, 1]],
    [5, [1, 2, 2]],
    [9, [1, 3, 3, 2]],
  ])('reaches %i nodes in waves of %j', (count, waves) => {
    const nodes = fleetOf(...Array.from({ length: count }, () => 'absent' as const))
    const seen: number[] = []
    for (;;) {
      const wave = nodes.filter(({ id, activeVersion }) => activeVersion !== 2 && takesPart(id, nodes, 2))
      if (wave.length === 0) break
      seen.push(wave.length)
      // While they load, no other node may begin.
      for (const { id } of wave) nodes[nodes.findIndex((node) => node.id === id)] = viewOf(id, 'loading')
      expect(
        nodes.filter(({ id, activeVersion }) => activeVersion !== 2 && takesPart(id, nodes, 2)),
      ).toHaveLength(wave.length)
      for (const { id } of wave) nodes[nodes.findIndex((node) => node.id === id)] = viewOf(id, 'serving')
    }
    expect(seen).toEqual(waves)
    expect(countWaves(count)).toBe(Math.max(1, waves.length - 1))
  })

  test('goes on with a second node where the first one cannot load the mask, and stops if that cannot either', () => {
    expect(partOf(fleetOf('failed', 'absent', 'absent', 'absent', 'absent'))).toEqual(['node-1', 'node-2'])
    expect(partOf(fleetOf('failed', 'loading', 'absent', 'absent', 'absent'))).toEqual(['node-1', 'node-2'])
    expect(partOf(fleetOf('failed', 'failed', 'absent', 'absent', 'absent'))).toEqual(['node-1', 'node-2'])
    expect(partOf(fleetOf('failed', 'serving', 'absent', 'absent', 'absent'))).toHaveLength(4)
  })

  test('counts a node that tries again as one that could not load the mask', () => {
    const nodes = fleetOf('absent', 'absent', 'absent')
    const again = { version: 2, state: 'loading', requests: 0, error: 'no memory' } as const
    nodes[0] = viewOf('node-1', 'absent', { weightSets: [again] })
    expect(partOf(nodes)).toEqual(['node-1', 'node-2'])
  })

  test('stops in a later wave when more nodes fail than may load at once, and not for one', () => {
    const lastOf = (...states: State[]) => partOf(fleetOf(...states)).at(-1)
    expect(lastOf('serving', 'failed', 'absent', 'absent', 'absent', 'absent')).toBe('node-4')
    expect(lastOf('serving', 'failed', 'failed', 'absent', 'absent', 'absent')).toBe('node-4')
    expect(lastOf('serving', 'failed', 'failed', 'failed', 'absent', 'absent')).toBe('node-4')
    expect(lastOf('serving', 'failed', 'absent')).toBe('node-3')
  })

  test('gives the place of a node that died to the next, and lets it go on when it returns', () => {
    const nodes = fleetOf('serving', 'loading', 'loading', 'absent', 'absent')
    expect(partOf(nodes)).toEqual(['node-1', 'node-2', 'node-3'])
    nodes[1] = viewOf('node-2', 'loading', { alive: false })
    expect(takesPart('node-4', nodes, 2)).toBe(false)
    nodes[2] = viewOf('node-3', 'serving')
    expect(takesPart('node-4', nodes, 2)).toBe(true)
    nodes[3] = viewOf('node-4', 'loading')
    nodes[1] = viewOf('node-2', 'loading')
    expect(takesPart('node-2', nodes, 2)).toBe(true)
    expect(takesPart('node-5', nodes, 2)).toBe(false)
  })

  test('takes a first node that died for another one', () => {
    const [gone, next] = [viewOf('node-1', 'loading', { alive: false }), viewOf('node-2', 'absent')]
    expect(takesPart('node-2', [gone, next], 2)).toBe(true)
  })

  test('has a node that joins wait for its turn, and one that drains keep what it serves', () => {
    const nodes = fleetOf('serving', 'loading')
    nodes.push(viewOf('node-0', 'absent', { activeVersion: 0 }))
    expect(takesPart('node-0', nodes, 2)).toBe(false)
    expect(takesPart('unknown', nodes, 2)).toBe(false)
    nodes.push(
      viewOf('node-8', 'absent', { draining: true }),
      viewOf('node-9', 'serving', { draining: true }),
    )
    expect(['node-8', 'node-9'].map((id) => takesPart(id, nodes, 2))).toEqual([false, true])
  })

  test('has the nodes load a mask on trial in waves too', () => {
    const partOfTrial = (...states: State[]) => {
      const nodes = fleetOf(...states)
      return nodes.filter(({ id }) => takesPart(id, nodes, 2, 'hold')).length
    }
    expect(partOfTrial('absent', 'absent', 'absent', 'absent', 'absent')).toBe(1)
    expect(partOfTrial('failed', 'absent', 'absent', 'absent', 'absent')).toBe(2)
    expect(partOfTrial('ready', 'absent', 'absent', 'absent', 'absent')).toBe(3)
    expect(partOfTrial('ready', 'loading', 'failed', 'absent', 'absent')).toBe(4)
    expect(partOfTrial('ready', 'ready', 'ready', 'absent', 'absent')).toBe(5)
  })

  test('passes over the nodes that have no memory for a mask on trial, or wait for it, until one has', () => {
    const memory = { budgetBytes: 10, freeBytes: 1, unheld: [{ version: 2, bytes: 5 }] }
    const nodes = fleetOf('absent', 'absent', 'absent', 'absent', 'absent')
    nodes[0] = viewOf('node-1', 'absent', { memory })
    nodes[1] = viewOf('node-2', 'absent', { memory })
    nodes[2] = viewOf('node-3', 'loading', { memory })
    const holding = () => nodes.filter(({ id }) => takesPart(id, nodes, 2, 'hold')).length
    expect(holding()).toBe(4)
    nodes[3] = viewOf('node-4', 'loading')
    expect(holding()).toBe(4)
    nodes[3] = viewOf('node-4', 'ready')
    expect(holding()).toBe(5)
    // The mask that a node serves needs no such room.
    expect(partOf([viewOf('node-1', 'absent'), viewOf('node-2', 'absent', { memory })])).toEqual(['node-1'])
  })

  test('lets every node that holds the mask already, as after a canary, switch at once', () => {
    const nodes = fleetOf('ready', 'ready', 'ready', 'ready')
    expect(partOf(nodes)).toHaveLength(4)
  })
})
