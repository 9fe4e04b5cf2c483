import { expect, test } from 'vitest'
import {
  pickNode,
  type Candidate,
  type PickRequest,
} from '../../../../gateway/src/fleet/object/node-picker.ts'

/** A small deterministic generator, so that a failure can be repeated from its seed. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function randomFleet(random: (below: number) => number): Candidate[] {
  return Array.from({ length: random(8) }, (_, index) => ({
    id: `node-${index}`,
    model: random(4) === 0 ? 'other' : 'model',
    alive: random(4) !== 0,
    draining: random(4) === 0,
    activeVersion: random(5) === 0 ? undefined : random(3),
    readyVersions: [0, 1, 2].filter(() => random(2) === 0),
    load: random(4),
    slots: 4,
    full: random(4) === 0,
    ...cachedOf(random(3) === 0 ? 1 + random(3) : 0),
  }))
}

/** The number of cached keys of a node, the same for every version. */
const cachedOf = (cached: number) => ({ cachedKeys: () => cached })
const SPILLOVER = 2

const SEEDS = Array.from({ length: 500 }, (_, seed) => seed)

/** Returns the seeds of random fleets that violate a property. */
function counterexamples(
  holds: (fleet: Candidate[], placement: PickRequest, picked: Candidate | undefined) => boolean,
): number[] {
  return SEEDS.filter((seed) => {
    const random = generator(seed)
    const fleet = randomFleet(random)
    const exclude = fleet.filter(() => random(5) === 0).map(({ id }) => id)
    const placement = {
      model: 'model',
      requestId: `request-${seed}`,
      desiredVersion: random(3),
      exclude,
      spillover: SPILLOVER,
    }
    return !holds(fleet, placement, pickNode(fleet, placement))
  })
}

const able = (node: Candidate, { model, exclude }: PickRequest) =>
  node.alive &&
  !node.draining &&
  node.model === model &&
  node.activeVersion !== undefined &&
  !exclude.includes(node.id)

/** Returns the nodes with the desired version active, or, if there are none, all that can serve the request. */
function versions(fleet: readonly Candidate[], placement: PickRequest): Candidate[] {
  const all = fleet.filter((node) => able(node, placement))
  const desired = all.filter((node) => node.activeVersion === placement.desiredVersion)
  return desired.length > 0 ? desired : all
}

test('the picked node can serve the request and is not full, and one is picked if there is any among the preferred versions', () => {
  const found = counterexamples((fleet, placement, picked) =>
    picked ? able(picked, placement) && !picked.full : versions(fleet, placement).every((node) => node.full),
  )
  expect(found).toEqual([])
})

test('no node on another version is picked while one holds the desired version', () => {
  const found = counterexamples((fleet, placement, picked) => {
    const holders = fleet.filter((node) => node.activeVersion === placement.desiredVersion)
    return (
      !holders.some((node) => able(node, placement)) ||
      (picked?.activeVersion ?? placement.desiredVersion) === placement.desiredVersion
    )
  })
  expect(found).toEqual([])
})

test('a request that names a version goes to the least loaded node that holds it, and to no other', () => {
  const found = counterexamples((nodes, placement) => {
    const fleet = nodes.map((node) => ({ ...node, ...cachedOf(0) }))
    const named = { ...placement, version: 1 }
    const picked = pickNode(fleet, named)
    const holders = fleet.filter(
      (node) =>
        able({ ...node, activeVersion: 0 }, placement) && !node.full && node.readyVersions.includes(1),
    )
    if (!picked) return holders.length === 0
    return holders.includes(picked) && holders.every(({ load }) => load >= picked.load)
  })
  expect(found).toEqual([])
})

const rivals = (fleet: readonly Candidate[], placement: PickRequest, picked: Candidate | undefined) =>
  fleet.filter((node) => able(node, placement) && !node.full && node.activeVersion === picked?.activeVersion)

test('no node of the same version has less load than a picked node without a cached prefix', () => {
  const found = counterexamples(
    (fleet, placement, picked) =>
      (picked?.cachedKeys(0) ?? 0) > 0 ||
      rivals(fleet, placement, picked).every(({ load }) => load >= (picked?.load ?? Infinity)),
  )
  expect(found).toEqual([])
})

test('no node within the spill-over bound has a longer cached prefix than the picked one, which is within the bound or the least loaded', () => {
  const found = counterexamples((fleet, placement, picked) => {
    const others = rivals(fleet, placement, picked)
    const least = Math.min(...others.map(({ load }) => load))
    const near = others.filter(({ load }) => load <= least + SPILLOVER)
    return (
      !picked || (near.includes(picked) && near.every((node) => node.cachedKeys(0) <= picked.cachedKeys(0)))
    )
  })
  expect(found).toEqual([])
})

test('prefixes that are cached for another version are ignored', () => {
  const node = (id: string, load: number, version: number): Candidate => ({
    id,
    model: 'm',
    alive: true,
    draining: false,
    activeVersion: 4,
    readyVersions: [3, 4],
    load,
    slots: 4,
    full: false,
    cachedKeys: (asked) => (asked === version ? 1 : 0),
  })
  const fleet = [node('a', 0, 9), node('b', 1, 3), node('c', 1, 4)]
  const placement = { model: 'm', requestId: 'request', desiredVersion: 4, exclude: [], spillover: 1 }
  expect(pickNode(fleet, placement)?.id).toBe('c')
  expect(pickNode(fleet, { ...placement, version: 3 })?.id).toBe('b')
  expect(pickNode(fleet, { ...placement, spillover: 0 })?.id).toBe('a')
})

test('the choice does not depend on the order of the nodes', () => {
  const found = counterexamples(
    (fleet, placement, picked) => pickNode(fleet.toReversed(), placement)?.id === picked?.id,
  )
  expect(found).toEqual([])
})

test('ties spread evenly over the nodes, and losing a node moves only its requests', () => {
  const fleet = ['a', 'b', 'c', 'd'].map((id) => ({
    id,
    model: 'm',
    alive: true,
    draining: false,
    activeVersion: 0,
    readyVersions: [0],
    load: 0,
    slots: 4,
    full: false,
    ...cachedOf(0),
  }))
  const pick = (nodes: typeof fleet, request: number) =>
    pickNode(nodes, { model: 'm', requestId: `req_${request}`, desiredVersion: 0, exclude: [], spillover: 4 })
      ?.id
  const picks = Array.from({ length: 4_000 }, (_, request) => pick(fleet, request))
  for (const { id } of fleet) expect(picks.filter((picked) => picked === id).length).toBeGreaterThan(850)
  const moved = picks.filter((picked, request) => pick(fleet.slice(0, 3), request) !== picked)
  expect(new Set(moved)).toEqual(new Set(['d']))
})
