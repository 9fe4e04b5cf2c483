import { expect, test } from 'vitest'
import { pickNode, type Candidate, type Placement } from '../../../gateway/src/fleet/picker.ts'

/** A small deterministic generator, so that a failure names its seed. */
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
    load: random(4),
  }))
}

const SEEDS = Array.from({ length: 500 }, (_, seed) => seed)

function eachFleet(check: (fleet: Candidate[], placement: Placement, seed: number) => void): void {
  for (const seed of SEEDS) {
    const random = generator(seed)
    const fleet = randomFleet(random)
    const exclude = fleet.filter(() => random(5) === 0).map(({ id }) => id)
    check(fleet, { model: 'model', requestId: `request-${seed}`, desiredVersion: random(3), exclude }, seed)
  }
}

const able = (node: Candidate, { model, exclude }: Placement) =>
  node.alive && !node.draining && node.model === model && node.activeVersion !== undefined && !exclude.includes(node.id)

test('the picked node can serve the request, and one is picked whenever one can', () => {
  eachFleet((fleet, placement, seed) => {
    const picked = pickNode(fleet, placement)
    if (picked) expect(able(picked, placement), `seed ${seed}`).toBe(true)
    expect(picked === undefined, `seed ${seed}`).toBe(!fleet.some((node) => able(node, placement)))
  })
})

test('no node on another version is picked while one holds the desired version', () => {
  eachFleet((fleet, placement, seed) => {
    const picked = pickNode(fleet, placement)
    const current = fleet.some((node) => able(node, placement) && node.activeVersion === placement.desiredVersion)
    if (current) expect(picked?.activeVersion, `seed ${seed}`).toBe(placement.desiredVersion)
  })
})

test('no node of the same version is less loaded than the picked one', () => {
  eachFleet((fleet, placement, seed) => {
    const picked = pickNode(fleet, placement)
    if (!picked) return
    const rivals = fleet.filter((node) => able(node, placement) && node.activeVersion === picked.activeVersion)
    expect(Math.min(...rivals.map(({ load }) => load)), `seed ${seed}`).toBe(picked.load)
  })
})

test('the choice does not depend on the order of the nodes', () => {
  eachFleet((fleet, placement, seed) => {
    expect(pickNode(fleet.toReversed(), placement)?.id, `seed ${seed}`).toBe(pickNode(fleet, placement)?.id)
  })
})

test('ties spread evenly over the nodes, and losing a node moves only its requests', () => {
  const fleet = ['a', 'b', 'c', 'd'].map((id) => ({ id, model: 'm', alive: true, draining: false, activeVersion: 0, load: 0 }))
  const pick = (nodes: typeof fleet, request: number) =>
    pickNode(nodes, { model: 'm', requestId: `req_${request}`, desiredVersion: 0, exclude: [] })?.id
  const counts = new Map<string | undefined, number>()
  for (let request = 0; request < 4_000; request += 1) {
    const before = pick(fleet, request)
    counts.set(before, (counts.get(before) ?? 0) + 1)
    if (before !== 'd') expect(pick(fleet.slice(0, 3), request)).toBe(before)
  }
  for (const { id } of fleet) expect(counts.get(id)).toBeGreaterThan(850)
})
