import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import { heartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { applyJobReports } from '../../../../gateway/src/adaptation/updates/job-reports.ts'
import { advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { jobsForNode } from '../../../../gateway/src/adaptation/updates/job-assignment.ts'
import {
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const db = openDatabase(env.DB)
const ahead = (ms: number) => testDeps({ nowMs: () => Date.now() + ms })
const running = (id: string, progress = 0.5) =>
  ({ id, state: 'running', progress, message: 'at work' }) as const

/** Registers a model with an update whose calibration job is queued. */
async function calibrating(model: string): Promise<{ update: string; job: string }> {
  await new SimulatedNode(`${model}-0`, model).beat({ draining: true })
  await importTexts(`${model}-a`)
  const { id } = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  const job = `${id}-calibrate`
  expect(await findJob(db, job)).toMatchObject({ state: 'queued', attempts: 0 })
  return { update: id, job }
}

/** Advances the updates of a node that reports nothing, and returns the jobs that it should run. */
const take = async (node: SimulatedNode, deps = testDeps()): Promise<Job[]> => {
  await advanceUpdates(deps, node.heartbeat().model.id)
  return jobsForNode(deps, node.heartbeat())
}

describe('assignment', () => {
  test('a job is assigned to one node, and repeated to that node until it reports the job', async () => {
    const { job } = await calibrating('one')
    const [first, second] = [new SimulatedNode('one-1', 'one'), new SimulatedNode('one-2', 'one')]
    expect((await take(first)).map(({ id }) => id)).toEqual([job])
    expect((await take(first)).map(({ id }) => id)).toEqual([job])
    expect(await take(second)).toEqual([])
    expect(await findJob(db, job)).toMatchObject({ state: 'running', nodeId: 'one-1', attempts: 1 })
  })

  test('a job that its node runs is repeated without what grows with the domains', async () => {
    const domains = Array.from({ length: 12 }, (_, index) => `short-${index}`)
    for (const domain of domains) await importTexts(domain)
    const node = new SimulatedNode('short-1', 'short')
    await node.beat()
    const weights = Object.fromEntries(domains.map((domain) => [domain, 2]))
    const { id } = await startUpdate('short', domains, { selection: { weights } })
    // The step that queues a job may go on after the response of its heartbeat.
    const untilJob = async (changes = {}) => {
      let response = await node.beat(changes)
      while (response.jobs.length === 0) response = await node.beat()
      return response
    }
    let whole = await untilJob()
    for (const kind of ['calibrate', 'evaluate']) {
      expect(whole.jobs).toMatchObject([{ id: `${id}-${kind}` }])
      const [job] = whole.jobs as [Job]
      for (const { sha256, bytes } of job.kind === 'calibrate' ? job.datasets : job.holdouts)
        expect(bytes).toBe((await env.ARTIFACTS.head(`datasets/${sha256}`))?.size)
      const again = await node.beat({ jobs: [running(`${id}-${kind}`)] })
      expect(again.jobs).toMatchObject([{ id: `${id}-${kind}`, kind, model: 'short' }])
      expect(JSON.stringify(whole).length).toBeGreaterThan(1_500)
      expect(JSON.stringify(again).length).toBeLessThan(500)
      expect(heartbeatResponse.parse(again)).toEqual(again)
      whole = await untilJob({ jobs: [await node.done(job)] })
    }
  })

  test('two nodes that ask at the same time do not both get a job', async () => {
    await calibrating('race')
    const nodes = Array.from({ length: 5 }, (_, index) => new SimulatedNode(`race-${index + 1}`, 'race'))
    const given = await Promise.all(nodes.map((node) => take(node)))
    expect(given.flat()).toHaveLength(1)
  })

  test('a node of another model and a draining node get no job', async () => {
    const { job } = await calibrating('mine')
    expect(await take(new SimulatedNode('other-1', 'other'))).toEqual([])
    const draining = new SimulatedNode('mine-1', 'mine').heartbeat({ draining: true })
    expect(await jobsForNode(testDeps(), draining)).toEqual([])
    expect(await findJob(db, job)).toMatchObject({ state: 'queued' })
  })

  test('a draining node keeps its job', async () => {
    const { job } = await calibrating('drain')
    const node = new SimulatedNode('drain-1', 'drain')
    await node.beat()
    expect((await node.beat({ draining: true })).jobs.map(({ id }) => id)).toEqual([job])
  })
})

describe('a job that avoids a node', () => {
  const avoid = (job: string, ...nodes: string[]) =>
    env.DB.prepare('update jobs set avoid_nodes = ? where id = ?').bind(JSON.stringify(nodes), job).run()

  test('goes to another one that is alive, and waits for it', async () => {
    const { job } = await calibrating('avoid')
    await avoid(job, 'avoid-1')
    const [first, second] = [new SimulatedNode('avoid-1', 'avoid'), new SimulatedNode('avoid-2', 'avoid')]
    // The second one is alive, and has just given the job back.
    await second.beat()
    await env.DB.prepare("update jobs set state = 'queued', node_id = null where id = ?").bind(job).run()
    expect((await first.beat()).jobs).toEqual([])
    expect((await second.beat()).jobs.map(({ id }) => id)).toEqual([job])
  })

  test('goes to it while no other one is alive or takes work', async () => {
    const { job } = await calibrating('alone')
    await avoid(job, 'alone-1')
    const [first, second] = [new SimulatedNode('alone-1', 'alone'), new SimulatedNode('alone-2', 'alone')]
    await second.beat({ draining: true })
    expect((await first.beat()).jobs.map(({ id }) => id)).toEqual([job])
  })

  test('goes to it if the others do not offer its method', async () => {
    const { job } = await calibrating('unable')
    await avoid(job, 'unable-1')
    const [first, second] = [new SimulatedNode('unable-1', 'unable'), new SimulatedNode('unable-2', 'unable')]
    await second.beat({ methods: ['magnitude'] })
    expect((await first.beat()).jobs.map(({ id }) => id)).toEqual([job])
  })
})

describe('lost nodes', () => {
  test('a job whose node is silent for 15 s goes to another node, and the first one must stop it when it returns', async () => {
    stopClock()
    const { job } = await calibrating('silent')
    const [first, second] = [new SimulatedNode('silent-1', 'silent'), new SimulatedNode('silent-2', 'silent')]
    await first.beat()
    await first.beat()
    expect(await take(second, ahead(14_000))).toEqual([])
    expect((await take(second, ahead(15_500))).map(({ id }) => id)).toEqual([job])
    expect(await findJob(db, job)).toMatchObject({ nodeId: 'silent-2', attempts: 2, progress: 0 })
    first.report(running(job, 0.9))
    expect((await first.beat()).jobs).toEqual([])
    expect(await findJob(db, job)).toMatchObject({ nodeId: 'silent-2', progress: 0 })
  })

  test('a result counts from every node that the job was assigned to, even from one that counted as lost', async () => {
    stopClock()
    const { update, job } = await calibrating('late')
    const [first, second] = [new SimulatedNode('late-1', 'late'), new SimulatedNode('late-2', 'late')]
    await first.beat()
    await take(second, ahead(15_500))
    await first.work()
    await first.beat()
    expect(await findJob(db, job)).toMatchObject({ state: 'done', nodeId: 'late-1' })
    expect(await getUpdate(update)).toMatchObject({ state: 'evaluating', mask_version: 1 })
  })

  test('a restarted node gets its job again at once, as another attempt', async () => {
    const { job } = await calibrating('restart')
    const node = new SimulatedNode('restart-1', 'restart')
    await node.beat()
    node.report(running(job))
    await node.beat()
    expect(await findJob(db, job)).toMatchObject({ attempts: 1, progress: 0.5 })
    node.restart()
    expect((await node.beat()).jobs.map(({ id }) => id)).toEqual([job])
    expect(await findJob(db, job)).toMatchObject({ attempts: 2, progress: 0, nodeId: 'restart-1' })
  })

  test('after five attempts the update fails with the last node and its message', async () => {
    const { update, job } = await calibrating('deadly')
    const node = new SimulatedNode('deadly-1', 'deadly')
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      expect((await node.beat()).jobs.map(({ id }) => id)).toEqual([job])
      node.report({ ...running(job), message: 'calibrating legal, block 3 of 30' })
      await node.beat()
      node.restart()
    }
    expect((await node.beat()).jobs).toEqual([])
    await node.beat()
    const { state, error } = await getUpdate(update)
    expect([state, error?.code]).toEqual(['failed', 'node_failed'])
    expect(error?.message).toContain("'deadly-1' at 'calibrating legal, block 3 of 30'")
  })

  test('a job that gets further in each attempt is not given up, and one that stops advancing is after five losses', async () => {
    const { update, job } = await calibrating('advancing')
    const node = new SimulatedNode('advancing-1', 'advancing')
    const lose = async (progress: number) => {
      expect((await node.beat()).jobs.map(({ id }) => id)).toEqual([job])
      node.report(running(job, progress))
      await node.beat()
      node.restart()
    }
    for (let attempt = 1; attempt <= 8; attempt += 1) await lose(attempt / 10)
    await node.beat()
    expect(await findJob(db, job)).toMatchObject({
      state: 'running',
      attempts: 9,
      stalls: 1,
      bestProgress: 0.8,
    })
    for (const progress of [0.8, 0.3, 0]) await lose(progress)
    await node.beat()
    expect(await findJob(db, job)).toMatchObject({ attempts: 12, stalls: 4, bestProgress: 0.8 })
    await lose(0.5)
    await node.beat()
    await node.beat()
    expect((await getUpdate(update)).error?.message).toContain('5 times in a row')
  })

  test('a job that its node gives back is no loss', async () => {
    const { job } = await calibrating('given-back')
    for (let attempt = 1; attempt <= 7; attempt += 1) {
      const node = new SimulatedNode(`given-back-${attempt}`, 'given-back')
      await node.beat()
      expect(await findJob(db, job)).toMatchObject({ state: 'running', attempts: attempt, stalls: 0 })
      node.report({ id: job, state: 'cancelled', progress: 0.3, message: 'the node stops' })
      await node.beat({ draining: true })
    }
  })

  test('a job that a node cancels goes to the next node that asks', async () => {
    const { job } = await calibrating('back')
    const [first, second] = [new SimulatedNode('back-1', 'back'), new SimulatedNode('back-2', 'back')]
    await first.beat()
    first.report({ id: job, state: 'cancelled', progress: 0.3, message: 'the node stops' })
    expect((await first.beat({ draining: true })).jobs).toEqual([])
    expect((await take(second)).map(({ id }) => id)).toEqual([job])
  })
})

describe('reports', () => {
  test('that are repeated, late or out of order change nothing after a job has ended', async () => {
    const { job } = await calibrating('repeat')
    const node = new SimulatedNode('repeat-1', 'repeat')
    await node.beat()
    const [calibrate] = node.jobs
    if (!calibrate) throw new Error('no job')
    const done = await node.done(calibrate)
    await applyJobReports(testDeps(), 'repeat-1', [done])
    const settled = await findJob(db, job)
    expect(settled).toMatchObject({ state: 'done', progress: 1 })
    await applyJobReports(testDeps(), 'repeat-1', [running(job, 0.1)])
    await applyJobReports(testDeps(), 'repeat-1', [
      { ...running(job), state: 'failed', error: { code: 'x', message: 'x' } },
    ])
    await applyJobReports(testDeps(), 'repeat-1', [done, done])
    expect(await findJob(db, job)).toEqual(settled)
  })

  test('of a result from a node that never had the job are ignored', async () => {
    const { job } = await calibrating('forged')
    const [first, stranger] = [
      new SimulatedNode('forged-1', 'forged'),
      new SimulatedNode('forged-2', 'forged'),
    ]
    await first.beat()
    const [calibrate] = first.jobs
    if (!calibrate) throw new Error('no job')
    stranger.report(await stranger.done(calibrate))
    await stranger.beat()
    expect(await findJob(db, job)).toMatchObject({ state: 'running', nodeId: 'forged-1', result: null })
    await first.work()
    await first.beat()
    expect(await findJob(db, job)).toMatchObject({
      state: 'done',
      nodeId: 'forged-1',
      handedTo: ['forged-1'],
    })
  })

  test('of unknown jobs, or from nodes that do not have the job, are ignored', async () => {
    const { job } = await calibrating('foreign')
    const node = new SimulatedNode('foreign-1', 'foreign')
    await node.beat()
    await applyJobReports(testDeps(), 'foreign-2', [
      running('no-such-job'),
      { ...running(job), state: 'failed', error: { code: 'internal_error', message: 'not mine' } },
    ])
    expect(await findJob(db, job)).toMatchObject({ state: 'running', nodeId: 'foreign-1', progress: 0 })
  })

  test.each([
    ['none', undefined],
    ['of the other kind', { kind: 'evaluate' as const, domains: [] }],
  ])('of an end whose result is %s fail the job', async (name, result) => {
    const model = `result-${name.length}`
    const { update, job } = await calibrating(model)
    const node = new SimulatedNode(`${model}-1`, model)
    await node.beat()
    node.report({ id: job, state: 'done', progress: 1, message: '', ...(result ? { result } : {}) })
    await node.beat()
    expect(await getUpdate(update)).toMatchObject({ state: 'failed', error: { code: 'node_failed' } })
  })

  test('of a mask that is not in the store requeue the job', async () => {
    const { update, job } = await calibrating('gone')
    const node = new SimulatedNode('gone-1', 'gone')
    await node.beat()
    await node.work()
    const [calibrate] = node.jobs
    if (!calibrate) throw new Error('no job')
    const { result } = await node.done(calibrate)
    if (result?.kind !== 'calibrate') throw new Error('not a calibration')
    await env.ARTIFACTS.delete(`masks/${result.maskSha256}`)
    expect((await node.beat()).jobs).toEqual([])
    expect(await findJob(db, job)).toMatchObject({ state: 'queued', result: null })
    expect(await node.finish(update)).toMatchObject({ state: 'promoted' })
    expect(await findJob(db, job)).toMatchObject({ state: 'done', attempts: 2 })
  })

  test('of masks that are never in the store end the update', async () => {
    const { update, job } = await calibrating('unstored')
    const node = new SimulatedNode('unstored-1', 'unstored')
    for (let attempt = 1; attempt <= 5; attempt++) {
      await node.beat()
      const [calibrate] = node.jobs
      if (!calibrate) throw new Error(`no job in attempt ${attempt}`)
      expect(await findJob(db, job)).toMatchObject({ state: 'running', attempts: attempt })
      const report = await node.done(calibrate)
      if (report.result?.kind !== 'calibrate') throw new Error('not a calibration')
      await env.ARTIFACTS.delete(`masks/${report.result.maskSha256}`)
      node.report(report)
      await node.beat()
    }
    expect(await getUpdate(update)).toMatchObject({
      state: 'failed',
      error: { code: 'node_failed', message: expect.stringContaining('5 times') as string },
    })
  })
})
