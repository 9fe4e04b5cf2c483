import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { MaskEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { CalibrateJob, CalibrateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { jobsForNode } from '../../../../gateway/src/adaptation/updates/job-assignment.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)

test('a method that no node offers is rejected with the offered ones, and a job goes to a node that offers its method', async () => {
  const old = new SimulatedNode('method-old', 'method')
  const modern = new SimulatedNode('method-new', 'method')
  await old.beat({ methods: ['copal'] })
  await modern.beat({ methods: ['copal', 'continual-nowag+reconstruct'] })
  await importTexts('method-a')
  const request = { model: 'method', domains: ['method-a'], samples: 2, length: 64 }
  const refused = await admin('POST', '/updates', { ...request, selection: { method: 'copl' } })
  expect(refused.status).toBe(400)
  expect(await errorOf(refused)).toMatchObject({
    code: 'invalid_request',
    param: 'selection.method',
    message:
      "No node of 'method' offers the pruning method 'copl'. Did you mean 'copal'? " +
      'The rules are continual-nowag, copal; they can be followed by +reconstruct. ' +
      "'npx copal methods' lists the valid combinations ('+allocated' and '+rows' need a model that was measured: npx copal lab --help).",
  })
  const { id } = await startUpdate('method', ['method-a'], {
    selection: { method: 'continual-nowag+reconstruct' },
  })
  // Advance past collecting, so that there is a calibration to assign.
  for (let turn = 0; turn < 5; turn += 1) {
    await old.beat({ methods: ['copal'] })
    expect(old.jobs).toEqual([])
  }
  expect((await getUpdate(id)).state).toBe('calibrating')
  await modern.beat({ methods: ['copal', 'continual-nowag+reconstruct'] })
  expect(modern.jobs).toMatchObject([
    { kind: 'calibrate', selection: { method: 'continual-nowag+reconstruct' } },
  ])
})

test('the default method allocates the sparsity if a node offers that, but not for an n:m pattern', async () => {
  const methods = { methods: ['continual-wanda+allocated+swaps', 'continual-wanda+swaps'] }
  const node = new SimulatedNode('default-1', 'default')
  await node.beat(methods)
  await importTexts('default-a')
  const methodAt = async (pattern: string) => {
    const { id } = await startUpdate('default', ['default-a'], { selection: { pattern } })
    expect((await admin('POST', `/updates/${id}/cancel`)).status).toBe(200)
    return (await getUpdate(id)).method
  }
  expect(await methodAt('0.5')).toBe('continual-wanda+allocated+swaps')
  expect(await methodAt('2:4')).toBe('continual-wanda+swaps')
  await node.beat({ methods: ['continual-wanda+allocated+rows+swaps', ...methods.methods] })
  expect(await methodAt('0.5')).toBe('continual-wanda+allocated+rows+swaps')
  expect(await methodAt('2:4')).toBe('continual-wanda+swaps')
})

test('patterns of single linears reach the node unchanged and in their order, and are shown', async () => {
  const node = new SimulatedNode('patterns-1', 'patterns')
  await node.beat()
  await importTexts('patterns-a')
  const patterns = { '*': '0.4', 'model.layers.1.*': 'dense', 'model.layers.1.mlp.up_proj.weight': '2:4' }
  const { id } = await startUpdate('patterns', ['patterns-a'], { selection: { patterns } })
  await node.reach(id, 'calibrating')
  await node.beat()
  const [job] = node.jobs as CalibrateJob[]
  expect(Object.entries(job?.selection.patterns ?? {})).toEqual(Object.entries(patterns))
  expect(job?.selection.pattern).toBe('0.5')
  expect((await getUpdate(id)).patterns).toEqual(patterns)
})

test('a mask is registered with the scope that the node reports, or else with the requested one', async () => {
  const node = new SimulatedNode('scope-1', 'scope')
  await node.beat()
  await importTexts('scope-a')
  for (const scope of ['matrix', undefined] as const) {
    const { id } = await startUpdate('scope', ['scope-a'], { selection: { scope: 'row' } })
    await node.reach(id, 'calibrating')
    await node.beat()
    const [job] = node.jobs as [CalibrateJob]
    expect(job.selection.scope).toBe('row')
    const report = await node.done(job)
    node.report({ ...report, result: { ...(report.result as CalibrateResult), scope } })
    await node.finish(id)
  }
  const { data } = await adminJson<{ data: MaskEntry[] }>('GET', '/masks?model=scope')
  expect(data.map((mask) => mask.scope).toSorted()).toEqual(['matrix', 'row'])
})

test('any method is accepted while no node is alive, and the node that gets the job decides', async () => {
  const { model } = new SimulatedNode('silent-1', 'silent').heartbeat()
  await ensureModel(db, model, Date.now())
  await importTexts('silent-a')
  const { method } = await createUpdate(testDeps(), {
    model: 'silent',
    domains: ['silent-a'],
    selection: { method: 'of-a-later-version', scope: 'row' },
    samples: 2,
    length: 64,
    seed: 0,
  })
  expect(method).toBe('of-a-later-version')
})

test('a job whose method no node offers any more is assigned to any node after a minute', async () => {
  stopClock()
  const node = new SimulatedNode('forsaken-1', 'forsaken')
  await node.beat()
  await importTexts('forsaken-a')
  const { id } = await startUpdate('forsaken', ['forsaken-a'])
  // The node restarts with a version that does not know the method.
  const old = { methods: ['copal'] }
  for (let turn = 0; turn < 5; turn += 1) await node.beat(old)
  expect(node.jobs).toEqual([])
  expect((await getUpdate(id)).state).toBe('calibrating')
  const early = testDeps({ nowMs: () => Date.now() + 50_000 })
  expect(await jobsForNode(early, node.heartbeat(old))).toEqual([])
  const late = testDeps({ nowMs: () => Date.now() + 61_000 })
  expect(await jobsForNode(late, node.heartbeat(old))).toMatchObject([{ id: `${id}-calibrate` }])
})

test('a domain without enough text is rejected before the update starts, with the available and needed tokens', async () => {
  await new SimulatedNode('few-1', 'few').beat()
  const unknown = await admin('POST', '/updates', { model: 'few', domains: ['few-nothing'], length: 64 })
  expect(unknown.status).toBe(422)
  expect(await errorOf(unknown)).toMatchObject({ code: 'insufficient_samples', param: 'domains' })
  await importTexts('few-a', 40)
  const mistyped = await admin('POST', '/updates', { model: 'few', domains: ['few-aa'], length: 64 })
  expect((await errorOf(mistyped)).message).toContain(
    "There is no domain 'few-aa' yet. Did you mean 'few-a'?",
  )
  const response = await admin('POST', '/updates', {
    model: 'few',
    domains: ['few-a'],
    samples: 1024,
    length: 64,
  })
  const { message } = await errorOf(response)
  expect(message).toMatch(
    /'few-a' has about \d+ tokens of new samples, \d+ fewer than the 16384 that are needed/,
  )
  const held = await admin('POST', '/updates', {
    model: 'few',
    domains: ['few-a', 'few-b'],
    samples: 2,
    length: 64,
  })
  expect((await errorOf(held)).message).toContain("'few-b'")
  const { data } = await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')
  expect(data.filter(({ model }) => model === 'few')).toEqual([])
})

test('a second update of a model is rejected with the id of the running one, and another model can have its own', async () => {
  const node = new SimulatedNode('busy-1', 'busy')
  await node.beat()
  await new SimulatedNode('free-1', 'free').beat()
  await importTexts('busy-a')
  const { id } = await startUpdate('busy', ['busy-a'])
  const refused = await admin('POST', '/updates', {
    model: 'busy',
    domains: ['busy-a'],
    samples: 2,
    length: 64,
  })
  expect(refused.status).toBe(409)
  const error = await errorOf(refused)
  expect(error.code).toBe('conflict')
  expect(error.message).toContain(id)
  // Its domains may lack only the texts that the running one has taken.
  const lacking = await admin('POST', '/updates', { model: 'busy', domains: ['busy-b'] })
  expect((await errorOf(lacking)).message).toContain(id)
  expect((await startUpdate('free', ['busy-a'])).model).toBe('free')
  await node.finish(id)
  expect((await startUpdate('busy', ['busy-a'])).state).toBe('collecting')
})

test('updates are listed without what their jobs carry, which after many updates is a megabyte each', async () => {
  const node = new SimulatedNode('listed-1', 'listed')
  await node.beat()
  await importTexts('listed-a')
  const { id } = await startUpdate('listed', ['listed-a'])
  await node.reach(id, 'calibrating')
  await node.beat()
  const payloads = (change: string) =>
    env.DB.prepare(`update jobs set payload = ${change} where update_id = ?`).bind(id).run()
  // Reading this payload would fail.
  await payloads("'-' || payload")
  const { data } = await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')
  expect(data.find((update) => update.id === id)?.job).toMatchObject({ state: 'running', node: 'listed-1' })
  await payloads('substr(payload, 2)')
  expect((await admin('POST', `/updates/${id}/cancel`)).status).toBe(200)
})
