import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { DriftReport, MaskEntry } from '@copal/shared/wire/admin.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { CalibrateJob, CalibrateResult, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { advanceUpdate, advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  signedCall,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'

const db = openDatabase(env.DB)
const masksOf = async (model: string) =>
  (await adminJson<{ data: MaskEntry[] }>('GET', `/masks?model=${model}`)).data
const domainOf = async (name: string) =>
  (await adminJson<{ data: DomainEntry[] }>('GET', '/domains')).data.find((domain) => domain.name === name)

describe('a whole update', () => {
  test('freezes datasets, calibrates, evaluates mask and dense model, and is promoted when the node serves the mask', async () => {
    const node = new SimulatedNode('whole-1', 'whole')
    await node.beat()
    await importTexts('whole-a')
    const update = await startUpdate('whole', ['whole-a'])
    expect(update).toMatchObject({
      model: 'whole',
      domains: ['whole-a'],
      method: 'continual-wanda+swaps',
      pattern: '0.5',
      scope: 'row',
      state: 'collecting',
      mask_version: null,
      error: null,
      finished_at: null,
    })

    await node.reach(update.id, 'calibrating')
    await node.beat()
    const [calibrate] = node.jobs as CalibrateJob[]
    expect(node.jobs).toHaveLength(1)
    expect(calibrate).toMatchObject({
      kind: 'calibrate',
      accumulated: [],
      samples: 2,
      length: 64,
      parent: null,
    })
    const dataset = calibrate?.datasets[0]
    expect(dataset?.domain).toBe('whole-a')
    const lines = await (await signedCall('GET', `/internal/datasets/${dataset?.sha256}`)).text()
    const texts = lines
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { text: string }).text)
    expect(texts).toHaveLength(dataset?.samples ?? -1)
    expect(texts.every((text) => text.startsWith('whole-a text number'))).toBe(true)

    node.report({ id: calibrate?.id ?? '', state: 'running', progress: 0.5, message: 'block 1 of 2' })
    await node.beat()
    const halfway = await getUpdate(update.id)
    expect(halfway).toMatchObject({
      state: 'calibrating',
      job: { state: 'running', progress: 0.5, message: 'block 1 of 2', node: 'whole-1', attempt: 1 },
    })
    expect(halfway.progress).toBeCloseTo(0.35, 9)

    expect(await domainOf('whole-a')).toMatchObject({ holdout_frozen: false })
    await node.reach(update.id, 'evaluating')
    await node.beat()
    const first = node.jobs[0] as EvaluateJob
    await node.work()
    await node.beat()
    const second = node.jobs[0] as EvaluateJob
    expect([first.mask, second.mask].filter((mask) => mask === null)).toHaveLength(1)
    expect(first.holdouts).toEqual(second.holdouts)
    expect(first.windowTokens).toBe(64)
    const held = await (await signedCall('GET', `/internal/datasets/${first.holdouts[0]?.sha256}`)).text()
    for (const text of texts) expect(held).not.toContain(text)
    expect(await domainOf('whole-a')).toMatchObject({
      holdout_frozen: true,
      holdout_samples: held.trim().split('\n').length,
    })

    expect(await node.finish(update.id)).toMatchObject({
      state: 'promoted',
      mask_version: 1,
      progress: 1,
      error: null,
    })
    expect(node.activeVersion).toBe(1)
    expect(await masksOf('whole')).toMatchObject([
      {
        version: 1,
        active: true,
        previous: false,
        parent_version: null,
        domains: ['whole-a'],
        sparsity: 0.5,
        churn: null,
      },
    ])
    expect(await findModel(db, 'whole')).toMatchObject({ activeVersion: 1, previousVersion: 0 })
    expect(await domainOf('whole-a')).toMatchObject({ calibrated_datasets: 1 })
  })

  test('after another one counts the datasets of both, evaluates on both holdouts, and shows forgetting in the R matrix', async () => {
    // Perplexities: a: 10 dense, 12 under m1, 12.5 under m2; b: 20 dense, 22 under m2.
    const table: Record<string, number[]> = { 'two-a': [10, 12, 12.5], 'two-b': [20, 26, 22] }
    let masks = 0
    const versions = new Map<string | null, number>([[null, 0]])
    const node = new SimulatedNode('two-1', 'two', (job, domain) => {
      if (!versions.has(job.mask)) versions.set(job.mask, ++masks)
      return Math.log(table[domain]?.[versions.get(job.mask) ?? -1] ?? 30)
    })
    await node.beat()
    await importTexts('two-a')
    const first = await node.finish((await startUpdate('two', ['two-a'])).id)
    await importTexts('two-b')
    const started = await startUpdate('two', ['two-b'])
    await node.reach(started.id, 'calibrating')
    await node.beat()
    const job = node.jobs[0] as CalibrateJob
    expect(job.datasets.map(({ domain }) => domain)).toEqual(['two-b'])
    expect(job.accumulated.map(({ domain }) => domain)).toEqual(['two-a'])
    expect(job.parent).toBe((await masksOf('two'))[0]?.sha256)
    const second = await node.finish(started.id)
    expect([first.mask_version, second.mask_version]).toEqual([1, 2])
    expect(
      (await masksOf('two')).map(({ version, domains, parent_version: parent }) => ({
        version,
        domains,
        parent,
      })),
    ).toEqual([
      { version: 2, domains: ['two-a', 'two-b'], parent: 1 },
      { version: 1, domains: ['two-a'], parent: null },
    ])
    expect((await listCounted(db, 'two')).map(({ domain }) => domain)).toEqual(['two-a', 'two-b'])

    const { r } = await adminJson<DriftReport>('GET', '/drift?model=two')
    expect(r.stages).toEqual([
      { mask_version: 0, calibrated_domains: [] },
      { mask_version: 1, calibrated_domains: ['two-a'] },
      { mask_version: 2, calibrated_domains: ['two-b'] },
    ])
    const [a, b] = [r.domains.indexOf('two-a'), r.domains.indexOf('two-b')]
    expect([a, b]).toEqual([0, 1])
    expect(r.perplexity.map((row) => row[a])).toEqual([10, 12, 12.5].map((value) => expect.closeTo(value, 9)))
    // The parent is evaluated on the new holdout too, since the second mask is compared with it.
    expect(r.perplexity.map((row) => row[b])).toEqual([20, 26, 22].map((value) => expect.closeTo(value, 9)))
    expect(r.backward_transfer?.mean).toBeCloseTo(0.5, 9)
    expect(r.backward_transfer?.max).toBeCloseTo(0.5, 9)
    const ofFirst = await adminJson<DriftReport>('GET', '/drift?model=two&mask_version=1')
    expect(ofFirst.r.stages.map(({ mask_version: version }) => version)).toEqual([0, 1, 2])
  })

  test('evaluates the dense model only on holdouts without a dense evaluation', async () => {
    const jobs: EvaluateJob[] = []
    const node = new SimulatedNode('dense-1', 'dense', (job) => (jobs.push(job), 2))
    await node.beat()
    await importTexts('dense-a')
    await node.finish((await startUpdate('dense', ['dense-a'])).id)
    expect(jobs.some(({ mask }) => mask === null)).toBe(true)
    jobs.length = 0
    await node.finish((await startUpdate('dense', ['dense-a'])).id)
    const ofDense = jobs
      .filter(({ mask }) => mask === null)
      .flatMap(({ holdouts }) => holdouts.map(({ domain }) => domain))
    expect(ofDense).not.toContain('dense-a')
  })

  test('of the same domain calibrates on new texts only, and counts those of the one before as they are', async () => {
    const node = new SimulatedNode('again-1', 'again')
    await node.beat()
    await importTexts('again-a')
    await node.finish((await startUpdate('again', ['again-a'])).id)
    const [first] = await listCounted(db, 'again')
    const update = await startUpdate('again', ['again-a'])
    await node.reach(update.id, 'calibrating')
    await node.beat()
    const job = node.jobs[0] as CalibrateJob
    expect(job.accumulated).toEqual([first])
    expect(job.datasets).toMatchObject([
      { domain: 'again-a', sha256: expect.not.stringMatching(first?.sha256 ?? '') },
    ])
    await node.finish(update.id)
    expect(await listCounted(db, 'again')).toEqual([first, ...job.datasets])
  })

  test('is idempotent: concurrent and repeated steps give one mask and one promotion', async () => {
    const node = new SimulatedNode('many-1', 'many')
    await node.beat()
    await importTexts('many-a')
    const { id } = await startUpdate('many', ['many-a'])
    const crowd = () => Promise.all(Array.from({ length: 6 }, () => advanceUpdate(testDeps(), id)))
    for (let turn = 0; turn < 12; turn += 1) {
      await crowd()
      await Promise.all([node.beat(), advanceUpdates(testDeps()), crowd()])
      await node.work()
    }
    expect(await getUpdate(id)).toMatchObject({ state: 'promoted', mask_version: 1 })
    expect(await masksOf('many')).toHaveLength(1)
    expect(await findModel(db, 'many')).toMatchObject({ activeVersion: 1, previousVersion: 0, revision: 1 })
    const before = await findUpdate(db, id)
    await crowd()
    expect(await findUpdate(db, id)).toEqual(before)
  })

  test('waits until every live node serves the mask, but at most for the convergence timeout', async () => {
    const [node, slow] = [new SimulatedNode('slow-1', 'slow'), new SimulatedNode('slow-2', 'slow')]
    await node.beat()
    await importTexts('slow-a')
    const { id } = await startUpdate('slow', ['slow-a'])
    await node.reach(id, 'promoting')
    await slow.beat()
    await node.beat()
    await node.beat()
    expect(node.activeVersion).toBe(1)
    expect(await getUpdate(id)).toMatchObject({
      state: 'promoting',
      message: 'waiting until every live node serves m1',
    })
    await advanceUpdate(testDeps({ nowMs: () => Date.now() + 121_000 }), id)
    expect(await getUpdate(id)).toMatchObject({ state: 'promoted' })
    expect((await slow.beat()).desired.active).toMatchObject({ version: 1 })
  })
})

describe('failures of an update', () => {
  test('a mask that no live node can load fails the update with a node’s reason, and the previous mask stays active', async () => {
    const [node, other] = [new SimulatedNode('unfit-1', 'unfit'), new SimulatedNode('unfit-2', 'unfit')]
    await node.beat()
    await importTexts('unfit-a')
    const { id: firstId } = await startUpdate('unfit', ['unfit-a'])
    await node.finish(firstId)
    await importTexts('unfit-b')
    const { id } = await startUpdate('unfit', ['unfit-b'])
    await node.reach(id, 'promoting')
    expect(await findModel(db, 'unfit')).toMatchObject({ activeVersion: 2, previousVersion: 1 })
    const serves = { version: 1, state: 'ready', requests: 0 } as const
    const failed = { version: 2, state: 'failed', requests: 0, error: 'Linear w has no rows.' } as const
    const after = (ms: number) => advanceUpdate(testDeps({ nowMs: () => Date.now() + ms }), id)
    await node.beat({ activeVersion: 1, weightSets: [serves, failed] })
    await other.beat({
      activeVersion: 1,
      weightSets: [serves, { ...failed, state: 'loading', error: undefined }],
    })
    await after(16_000)
    expect((await getUpdate(id)).state).toBe('promoting')
    await other.beat({ activeVersion: 1, weightSets: [serves, failed] })
    // A first failure may be temporary.
    expect((await getUpdate(id)).state).toBe('promoting')
    await Promise.all([after(16_000), after(16_000), after(130_000)])
    expect(await getUpdate(id)).toMatchObject({
      state: 'failed',
      mask_version: 2,
      error: { code: 'node_failed' },
    })
    expect((await getUpdate(id)).error?.message).toMatch(/m2.*'unfit-1' reports: Linear w has no rows\./)
    expect(await findModel(db, 'unfit')).toMatchObject({
      activeVersion: 1,
      previousVersion: null,
      revision: 3,
    })
    expect((await node.beat()).desired).toMatchObject({ active: { version: 1 }, previous: null })
    expect((await admin('POST', '/rollback', { model: 'unfit', version: 2 })).status).toBe(409)
    const counted = await listCounted(db, 'unfit')
    expect(counted.map(({ domain }) => domain)).toEqual(['unfit-a'])
    expect((await getUpdate(firstId)).state).toBe('promoted')
  })

  test("a mask's domains are those of the datasets that the node counted", async () => {
    const node = new SimulatedNode('counted-1', 'counted')
    await node.beat()
    await importTexts('counted-a')
    await importTexts('counted-b')
    const { id } = await startUpdate('counted', ['counted-a', 'counted-b'])
    await node.reach(id, 'calibrating')
    await node.beat()
    const [job] = node.jobs as [CalibrateJob]
    const report = await node.done(job)
    const result = report.result as CalibrateResult
    const counted = job.datasets.filter(({ domain }) => domain === 'counted-b')
    node.report({
      ...report,
      result: { ...result, tokens: counted.map(({ sha256 }) => ({ sha256, tokens: 100 })) },
    })
    await node.beat()
    await node.beat()
    expect((await masksOf('counted')).map(({ domains }) => domains)).toEqual([['counted-b']])
  })

  test('a domain whose texts were deleted after the start fails the update with that reason', async () => {
    const node = new SimulatedNode('vanish-1', 'vanish')
    await node.beat()
    await importTexts('vanish-a')
    const deps = testDeps()
    const update = await createUpdate(deps, {
      model: 'vanish',
      domains: ['vanish-a'],
      selection: { scope: 'row' },
      samples: 2,
      length: 64,
      seed: 0,
    })
    await adminJson('DELETE', '/domains/vanish-a/samples')
    await advanceUpdate(deps, update.id)
    expect(await getUpdate(update.id)).toMatchObject({
      state: 'failed',
      progress: 0,
      error: { code: 'insufficient_samples' },
    })
  })

  test('a failed job fails the update with the message of the node', async () => {
    const node = new SimulatedNode('fail-1', 'fail')
    await node.beat()
    await importTexts('fail-a')
    const { id } = await startUpdate('fail', ['fail-a'])
    await node.reach(id, 'calibrating')
    await node.beat()
    const error = { code: 'insufficient_samples', message: 'Dataset of fail-a has 12 tokens, 64 are needed.' }
    node.report({ id: node.jobs[0]?.id ?? '', state: 'failed', progress: 0.2, message: 'failed', error })
    expect((await node.beat()).jobs).toEqual([])
    expect(await getUpdate(id)).toMatchObject({ state: 'failed', error, mask_version: null })
    expect(await findModel(db, 'fail')).toMatchObject({ activeVersion: 0 })
  })

  test.each([
    ['null', null],
    ['too large', 1e6],
  ])(
    'a mask whose perplexity is not finite (%s) is registered but rejected by the gate',
    async (name, nll) => {
      const model = `inf-${name.length}`
      const node = new SimulatedNode(`${model}-1`, model, (job) => (job.mask === null ? 2 : nll))
      await node.beat()
      await importTexts(`${model}-a`)
      const end = await node.finish((await startUpdate(model, [`${model}-a`])).id)
      expect(end).toMatchObject({ state: 'failed', mask_version: 1, error: { code: 'gate_failed' } })
      expect(end.error?.message).toMatch(/m1 is rejected.*loss is not finite on/)
      expect(await findModel(db, model)).toMatchObject({ activeVersion: 0 })
      const rollback = await admin('POST', '/rollback', { model, version: 1 })
      expect(rollback.status).toBe(409)
    },
  )

  test('an evaluation without one of the holdouts fails the update', async () => {
    const node = new SimulatedNode('gap-1', 'gap')
    await node.beat()
    await importTexts('gap-a')
    const { id } = await startUpdate('gap', ['gap-a'])
    await node.reach(id, 'evaluating')
    await node.beat()
    for (let turn = 0; turn < 3; turn += 1) {
      for (const { id: jobId } of node.jobs) {
        node.report({
          id: jobId,
          state: 'done',
          progress: 1,
          message: '',
          result: { kind: 'evaluate', domains: [] },
        })
      }
      await node.beat()
    }
    expect(await getUpdate(id)).toMatchObject({ state: 'failed', error: { code: 'node_failed' } })
  })
})
