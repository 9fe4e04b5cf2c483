/** A promoted mask reaches the nodes of a fleet in waves; nodes are doubles that report what they load and serve. */
import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDecisionsOf } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { adminJson, getUpdate, SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { seedMasks, seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'
import { acquireRequest } from '../../support/state/fleet-state.ts'

const db = openDatabase(env.DB)
const setOf = (
  version: number,
  state: WeightSetState['state'] = 'ready',
  error?: string,
): WeightSetState => ({
  version,
  state,
  requests: 0,
  ...(error === undefined ? {} : { error }),
})

/** A node that serves m1 until it is told to serve another mask and has loaded it. */
class Loader {
  readonly #node: SimulatedNode
  active = 1
  wanted = 1
  sets = [setOf(1)]

  constructor(id: string, model: string) {
    this.#node = new SimulatedNode(id, model)
  }

  /** Sends a heartbeat, and begins to load what the answer names. Returns the desired versions. */
  async beat(): Promise<(number | undefined)[]> {
    const { desired } = await this.#node.beat({ activeVersion: this.active, weightSets: this.sets })
    this.wanted = desired.active?.version ?? 0
    if (!this.sets.some(({ version }) => version === this.wanted))
      this.sets = [...this.sets, setOf(this.wanted, 'loading')]
    return [desired.active?.version, desired.previous?.version]
  }

  /** Ends the load of m2, by default well: then the node serves it. */
  loaded(error?: string): void {
    this.sets = [setOf(1), setOf(2, error === undefined ? 'ready' : 'failed', error)]
    if (error === undefined) this.active = this.wanted
  }
}

/** Begins the promotion of m2 beside m1, which all the nodes of a new model serve. */
async function begin(model: string, count: number) {
  const goOn = stopClock()
  const nodes = Array.from({ length: count }, (_, index) => new Loader(`${model}-${index + 1}`, model))
  for (const node of nodes) await node.beat()
  await seedMasks(model, [1, 2])
  await setPolicy(model, { watch: { soak_minutes: 0 } })
  for (const node of nodes) await node.beat()
  const id = await seedUpdate(model, 2, { state: 'promoting', parentVersion: 1 })
  await advanceUpdate(testDeps(), id)
  return { id, nodes, goOn, beatAll: () => beatAll(nodes) }
}

/** Returns how many nodes are told to serve m2 that do not yet. */
async function beatAll(nodes: readonly Loader[]): Promise<number> {
  for (const node of nodes) await node.beat()
  return nodes.filter(({ active, wanted }) => active !== 2 && wanted === 2).length
}

describe('the roll-out of a mask', () => {
  test.each([
    [1, [1]],
    [2, [1, 1]],
    [5, [1, 2, 2]],
    [9, [1, 3, 3, 2]],
  ])('reaches %i nodes in waves of %j, and requests are answered with either mask', async (count, waves) => {
    const model = `waves-${count}`
    const { id, nodes, beatAll: all } = await begin(model, count)
    for (const [wave, size] of waves.entries()) {
      expect(await all()).toBe(size)
      // All others go on with m1, and nobody begins while these load.
      expect(await all()).toBe(size)
      const served = new Set<number>()
      for (let request = 0; request < 4 * count; request += 1) {
        const leased = await testDeps().fleet.acquire(
          acquireRequest(`${model}-${wave}-${request}-request`, { model }),
        )
        if (!leased.ok) throw new Error('no node')
        expect(leased.maskVersion).toBe(nodes.find((_, at) => leased.nodeId === `${model}-${at + 1}`)?.active)
        served.add(leased.maskVersion)
      }
      expect(served).toEqual(new Set(wave === 0 ? [1] : [1, 2]))
      for (const node of nodes.filter(({ active, wanted }) => active !== wanted)) node.loaded()
    }
    expect(await all()).toBe(0)
    await advanceUpdate(testDeps(), id)
    expect((await getUpdate(id)).state).toBe('promoted')
    const [decision] = await listDecisionsOf(db, id)
    expect(decision).toMatchObject({ kind: 'promote', verdict: 'done' })
    expect(decision?.reason).toBe(`Active; ${count} of ${count} live nodes serve it.`)
  })

  test('stops if two nodes cannot load the mask: m1 stays active, and a decision has the reasons', async () => {
    const { id, nodes, beatAll: all } = await begin('stops', 5)
    expect(await all()).toBe(1)
    nodes[0]?.loaded('Linear w has no rows.')
    // Another node is to try, whatever time has passed.
    const late = testDeps({ nowMs: () => Date.now() + 16_000 })
    await nodes[0]?.beat()
    expect((await advanceUpdate(late, id))?.state).toBe('promoting')
    expect(await all()).toBe(2)
    expect((await advanceUpdate(late, id))?.state).toBe('promoting')
    nodes[1]?.loaded('Linear w has no rows either.')
    // The first one tries again meanwhile.
    if (nodes[0]) nodes[0].sets = [setOf(1), setOf(2, 'loading', 'Linear w has no rows.')]
    expect(await all()).toBe(2)
    await advanceUpdate(late, id)
    const update = await getUpdate(id)
    expect(update).toMatchObject({ state: 'failed', error: { code: 'node_failed' } })
    expect(update.error?.message).toMatch(
      /m2.*'stops-1' reports: Linear w has no rows\. Node 'stops-2' reports: Linear w has no rows either\./,
    )
    const decisions = await listDecisionsOf(db, id)
    expect(decisions).toMatchObject([
      { kind: 'promote', verdict: 'failed', maskVersion: 2, reason: update.error?.message },
    ])
    expect(await findModel(db, 'stops')).toMatchObject({ activeVersion: 1 })
    expect(await all()).toBe(0)
    expect(nodes.filter(({ sets }) => sets.some(({ version }) => version === 2))).toHaveLength(2)
  })

  test('reaches all other nodes if the disk of one is full, whichever that is, and the decision names it', async () => {
    const full = 'No disk space left in /home/copal/masks for a file.'
    for (const broken of [0, 1]) {
      const { id, nodes, beatAll: all } = await begin(`full-${broken}`, 3)
      for (let wave = 0; wave < 4; wave += 1) {
        await all()
        for (const [at, node] of nodes.entries())
          if (node.active !== node.wanted) node.loaded(at === broken ? full : undefined)
      }
      await all()
      expect(nodes.map(({ active }) => active)).toEqual([0, 1, 2].map((at) => (at === broken ? 1 : 2)))
      await advanceUpdate(testDeps(), id)
      await advanceUpdate(testDeps({ nowMs: () => Date.now() + 600_000 }), id)
      expect((await getUpdate(id)).state).toBe('promoted')
      const [decision] = await listDecisionsOf(db, id)
      expect(decision?.reason).toContain(`Node 'full-${broken}-${broken + 1}' reports: ${full}`)
    }
  })

  test('says which node failed in a later wave, and ends after two minutes a wave', async () => {
    const { id, nodes, beatAll: all, goOn } = await begin('later', 5)
    await all()
    // Two minutes a wave count from when the first node serves the mask, however long that takes.
    goOn(600_000)
    await all()
    nodes[0]?.loaded()
    expect(await all()).toBe(2)
    for (const node of nodes.slice(1, 3)) node.loaded('no memory')
    expect(await all()).toBe(3)
    nodes[3]?.loaded('no memory')
    expect(await all()).toBe(3)
    const after = (ms: number) => advanceUpdate(testDeps({ nowMs: () => Date.now() + ms }), id)
    expect((await after(235_000))?.state).toBe('promoting')
    expect((await after(241_000))?.state).toBe('promoted')
    const [decision] = await listDecisionsOf(db, id)
    expect(decision?.reason).toBe("Active; 1 of 5 live nodes serve it. Node 'later-2' reports: no memory")
  })

  test('goes on with another node if the first one dies, and a node that joins waits for its turn', async () => {
    const { nodes } = await begin('joins', 3)
    await nodes[0]?.beat()
    expect(nodes[0]?.wanted).toBe(2)
    const joined = new Loader('joins-0', 'joins')
    await nodes[0]?.beat()
    expect(await joined.beat()).toEqual([1, undefined])
    // It is named before all others, but the first node loads already.
    expect(await joined.beat()).toEqual([1, undefined])
    await testDeps().fleet.fail({ requestId: 'lost-request', nodeId: 'joins-1', how: 'broke' })
    expect((await joined.beat())[0]).toBe(2)
  })

  test('a canary is loaded in waves too, and one that two nodes cannot load reaches no other node', async () => {
    stopClock()
    const nodes = Array.from({ length: 5 }, (_, at) => new SimulatedNode(`trial-${at + 1}`, 'trial'))
    const beat = async (states: Partial<Record<number, WeightSetState['state']>> = {}) => {
      const told: number[] = []
      for (const [at, node] of nodes.entries()) {
        const state = states[at]
        const weightSets = [
          setOf(1),
          ...(state === undefined ? [] : [setOf(2, state, state === 'failed' ? 'no memory' : undefined)]),
        ]
        const { desired } = await node.beat({ activeVersion: 1, weightSets })
        if (desired.trials?.some(({ version }) => version === 2)) told.push(at)
      }
      return told
    }
    await beat()
    await seedMasks('trial', [1, 2])
    const id = await seedUpdate('trial', 2, { state: 'canary', parentVersion: 1 })
    await advanceUpdate(testDeps(), id)
    expect(await beat()).toEqual([0])
    expect(await beat({ 0: 'ready' })).toEqual([0, 1, 2])
    expect(await beat({ 0: 'ready', 1: 'ready', 2: 'loading' })).toEqual([0, 1, 2, 3])
    expect(await beat({ 0: 'failed', 1: 'failed' })).toEqual([0, 1])
    expect(await beat({ 0: 'failed', 1: 'failed' })).toEqual([0, 1])
    const after = (ms: number) => advanceUpdate(testDeps({ nowMs: () => Date.now() + ms }), id)
    expect((await after(11_000))?.state).toBe('canary')
    expect((await after(132_000))?.state).toBe('failed')
    expect(await listDecisionsOf(db, id)).toMatchObject([
      { kind: 'canary', verdict: 'failed', reason: expect.stringMatching(/'trial-1' reports: no memory/) },
    ])
    expect(await beat({ 0: 'failed', 1: 'failed' })).toEqual([])
  })

  test('a roll-back reaches all nodes with one heartbeat, also in the middle of a roll-out', async () => {
    const { id, nodes, beatAll: all } = await begin('back', 5)
    for (let wave = 0; wave < 4; wave += 1) {
      await all()
      for (const node of nodes.filter(({ active, wanted }) => active !== wanted)) node.loaded()
    }
    await advanceUpdate(testDeps(), id)
    expect((await getUpdate(id)).state).toBe('promoted')
    await adminJson('POST', '/rollback', { model: 'back' })
    for (const node of nodes) expect(await node.beat()).toEqual([1, 2])

    const middle = await begin('middle', 5)
    await middle.beatAll()
    middle.nodes[0]?.loaded()
    expect(await middle.beatAll()).toBe(2)
    await adminJson('POST', '/rollback', { model: 'middle' })
    for (const node of middle.nodes) expect((await node.beat())[0]).toBe(1)
    expect((await getUpdate(middle.id)).state).toBe('rolled_back')
  })
})
