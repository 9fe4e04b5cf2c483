/** Tests that the gate compares only losses that were measured with the same numerics. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listEvaluations } from '../../../../gateway/src/storage/db/queries/evaluation-queries.ts'
import {
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  type Scores,
} from '../../support/doubles/simulated-node.ts'
import { jobRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const PACKED = 'int4 packed, head int8'
const DENSE_FORM = 'int4 dense, head int8'
/** The factor by which the dense form raises the perplexity of a mask. */
const COST = 1.2

/**
 * Creates nodes of a model whose masks have these perplexities on every domain, in the order in which they are evaluated; 0 is dense.
 * They have more while a node stores them in the dense form.
 */
function nodesOf(model: string, perplexities: readonly number[], numerics: readonly (string | undefined)[]) {
  const order: (string | null)[] = [null]
  return numerics.map((name, index) => {
    const scores: Scores = ({ mask }) => {
      if (!order.includes(mask)) order.push(mask)
      const value = perplexities[Math.min(order.indexOf(mask), perplexities.length - 1)] ?? 10
      return Math.log(mask !== null && node.numerics !== PACKED ? value * COST : value)
    }
    const node = new SimulatedNode(`${model}-${index}`, model, scores)
    node.numerics = name
    return node
  })
}

/** Starts a model with one active mask, and imports the texts of a second domain. */
async function serve(model: string, nodes: readonly SimulatedNode[]) {
  for (const node of nodes) await node.beat()
  const policy = { model, confirm: 1, gate: { max_candidates: 1 }, effort: { max_holdouts: 256 } }
  await adminJson('PUT', '/policy', policy)
  await importTexts(`${model}-a`)
  const first = await startUpdate(model, [`${model}-a`])
  expect((await finish(first.id, nodes)).state).toBe('promoted')
  await importTexts(`${model}-b`)
}

/** Lets all nodes work until an update has ended. */
async function finish(id: string, nodes: readonly SimulatedNode[]) {
  for (let turn = 0; turn < 60; turn += 1) {
    for (const node of nodes) {
      await node.beat()
      await node.work()
    }
    const update = await getUpdate(id)
    if (update.finished_at !== null) return update
    if (update.state === 'collecting') await scheduler.wait(100)
  }
  throw new Error(`update ${id} did not end`)
}

/** Returns the evaluations of an update: the domains of each, by the ending of the job's id. */
async function evaluated(id: string, domains: readonly string[]) {
  const jobs = (await jobRowsOf(id)).filter(({ kind }) => kind === 'evaluate')
  return Object.fromEntries(
    jobs.map(({ id: job, payload }) => {
      const names = payload.kind === 'evaluate' ? payload.holdouts.map(({ domain }) => domain) : []
      return [job.slice(id.length), names.filter((name) => domains.includes(name)).toSorted()]
    }),
  )
}

const numericsOf = async (model: string) =>
  new Set((await listEvaluations(db, model)).map(({ numerics }) => numerics))

test('after an upgrade the active mask is measured once more, and a candidate that is worse than it fails', async () => {
  // The second mask is 10 % worse, and looks better than the first in the form of before.
  const [node] = nodesOf('upgrade', [10, 12, 13.2, 11], [undefined])
  if (!node) throw new Error('there is no node')
  const domains = ['upgrade-a', 'upgrade-b']
  await serve('upgrade', [node])
  expect(await numericsOf('upgrade')).toEqual(new Set([null]))
  node.numerics = PACKED
  const worse = await startUpdate('upgrade', ['upgrade-b'])
  const end = await finish(worse.id, [node])
  expect(end).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
  const figures = end.decisions?.[0]?.figures ?? []
  expect(
    figures.find(({ name, domain }) => name === 'perplexity / parent' && domain === 'upgrade-a'),
  ).toMatchObject({ value: expect.closeTo(1.1, 9) as number, passed: false })
  expect(await evaluated(worse.id, domains)).toEqual({
    '-evaluate': domains,
    '-parent': ['upgrade-b'],
    '-parent-2': ['upgrade-a'],
    '-dense': ['upgrade-b'],
    '-dense-2': ['upgrade-a'],
  })
  // Once: the next update finds everything in its numerics.
  const better = await startUpdate('upgrade', ['upgrade-b'])
  expect((await finish(better.id, [node])).state).toBe('promoted')
  expect(await evaluated(better.id, domains)).toEqual({ '-evaluate': domains })
  expect(await numericsOf('upgrade')).toEqual(new Set([PACKED]))
})

test('with nodes of two kinds the node that measured the candidate measures the active mask too', async () => {
  const nodes = nodesOf('mixed', [10, 12, 11.9], [PACKED, DENSE_FORM])
  await serve('mixed', nodes)
  const { id } = await startUpdate('mixed', ['mixed-b'])
  const end = await finish(id, nodes)
  expect(end.state).toBe('promoted')
  const figures = end.decisions?.[0]?.figures ?? []
  const ofParent = figures.filter(({ name }) => name === 'perplexity / parent')
  expect(ofParent.map(({ domain }) => domain)).toContain('mixed-a')
  for (const { value } of ofParent) expect(value).toBeCloseTo(11.9 / 12, 9)
  const jobs = await jobRowsOf(id)
  const nodeOf = (suffix: string) => jobs.find((job) => job.id === id + suffix)?.nodeId
  expect(nodeOf('-parent')).not.toBe(nodeOf('-evaluate'))
  expect(nodeOf('-parent-2')).toBe(nodeOf('-evaluate'))
})

test('a mask that no node can measure as the active one was is rejected, and the reason says so', async () => {
  const [node] = nodesOf('third', [10, 12, 11.9], [PACKED])
  if (!node) throw new Error('there is no node')
  await serve('third', [node])
  // As after each of two restarts with another setting.
  const done = node.done.bind(node)
  node.done = async (job) => {
    node.numerics = job.id.includes('-evaluate') ? 'bf16, head int8' : DENSE_FORM
    return done(job)
  }
  const { id } = await startUpdate('third', ['third-b'])
  const end = await finish(id, [node])
  expect(end).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
  expect(end.error?.message).toContain("it was measured in 'bf16, head int8', but m1 on ")
  expect(end.decisions?.[0]?.figures.find(({ name }) => name === 'numerics')?.passed).toBe(false)
  expect((await jobRowsOf(id)).filter(({ id: job }) => job.includes('-parent'))).toHaveLength(2)
  await adminJson('POST', `/updates/${id}/force`, { reason: 'the same weights in another precision' })
})

test('an evaluation goes to a node that reports the numerics in which the active mask was measured', async () => {
  // The first one polls first, and would take it.
  const nodes = nodesOf('alike', [10, 12, 11.9], [DENSE_FORM, PACKED, PACKED])
  const [other, ...alike] = nodes
  if (!other) throw new Error('there is no node')
  for (const node of nodes) node.namesNumerics = true
  for (const node of alike) await node.beat()
  await serve('alike', alike)
  await other.beat()
  const { id } = await startUpdate('alike', ['alike-b'])
  expect((await finish(id, nodes)).state).toBe('promoted')
  const jobs = (await jobRowsOf(id)).filter(({ kind }) => kind === 'evaluate')
  expect(jobs.map((job) => job.id.slice(id.length)).toSorted()).toEqual(['-dense', '-evaluate', '-parent'])
  expect(jobs.map(({ nodeId }) => nodeId)).not.toContain('alike-0')
  expect(await numericsOf('alike')).toEqual(new Set([PACKED]))
})

test('where the node is gone that measured the candidate, one that reports its numerics measures what it is compared with', async () => {
  const nodes = nodesOf('left', [10, 12, 11.9], [DENSE_FORM, PACKED, PACKED])
  const [other, gone, alike] = nodes
  if (!other || !gone || !alike) throw new Error('there are too few nodes')
  for (const node of nodes) node.namesNumerics = true
  await serve('left', [other])
  await gone.beat()
  const { id } = await startUpdate('left', ['left-b'])
  await other.reach(id, 'evaluating')
  await gone.beat()
  for (let turn = 0; turn < 3; turn += 1) {
    await other.work()
    await other.beat()
  }
  await alike.beat()
  // It reports the evaluation, and leaves.
  await gone.work()
  await gone.beat({ draining: true, leaving: true })
  expect(await finish(id, [other, alike])).toMatchObject({ state: 'promoted', error: null })
  const jobs = await jobRowsOf(id)
  const nodeOf = (suffix: string) => jobs.find((job) => job.id === id + suffix)?.nodeId
  expect([nodeOf('-evaluate'), nodeOf('-parent-2')]).toEqual(['left-1', 'left-2'])
})
