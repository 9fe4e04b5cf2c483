import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { findUpdate, noteDataset } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { createCallBudget } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import {
  releaseFrozenTexts,
  releaseUncollected,
} from '../../../../gateway/src/adaptation/statistics/release-texts.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { collect } from '../../../../gateway/src/adaptation/updates/collect-step.ts'
import { moveUpdate } from '../../../../gateway/src/adaptation/updates/move-update.ts'
import { cancelUpdate, createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import {
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { calibrationOf, newNode, runUpdate, textsOf } from '../../support/doubles/whole-updates.ts'
import { activate, seedMasks, seedUpdate } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)

describe('texts of an update that ends without promotion', () => {
  const newSamples = async (model: string, domain: string) =>
    (await testDeps().reservoir(domain).stats(model)).newSamples

  test.each(['cancelled', 'failed'] as const)(
    'are given back when it is %s, and its dataset is deleted',
    async (end) => {
      const model = `back-${end}`
      const node = await newNode(model)
      await importTexts(`${model}-a`)
      const all = await newSamples(model, `${model}-a`)
      const { id } = await startUpdate(model, [`${model}-a`])
      await node.reach(id, 'calibrating')
      const [dataset] = (await findUpdate(db, id))?.datasets ?? []
      expect(await newSamples(model, `${model}-a`)).toBeLessThan(all)
      if (end === 'cancelled') await cancelUpdate(testDeps(), id)
      else {
        await node.beat()
        const error = { code: 'node_failed', message: 'out of memory' }
        node.report({ id: node.jobs[0]?.id ?? '', state: 'failed', progress: 0, message: '', error })
        await node.beat()
      }
      expect((await getUpdate(id)).state).toBe(end)
      expect(await newSamples(model, `${model}-a`)).toBe(all)
      expect(await textsOf(dataset ?? '')).toEqual([])
      const again = await runUpdate(node, model, [`${model}-a`])
      expect(again.datasets[0]?.sha256).toBe(dataset)
    },
  )

  test('are kept for a mask that the gate rejected, until the next update of the model collects', async () => {
    const node = new SimulatedNode('kept-1', 'kept', ({ mask }) => (mask === null ? 2 : 9))
    await node.beat()
    await importTexts('kept-a')
    const all = await newSamples('kept', 'kept-a')
    const { id } = await startUpdate('kept', ['kept-a'], { samples: 100 })
    expect(await node.finish(id)).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
    const [dataset] = (await findUpdate(db, id))?.datasets ?? []
    expect(await newSamples('kept', 'kept-a')).toBeLessThan(all)
    expect(await textsOf(dataset ?? '')).not.toEqual([])
    // Another model neither gives them back nor deletes the dataset that both have.
    const other = await newNode('kept-other')
    const elsewhere = await startUpdate('kept-other', ['kept-a'], { samples: 100 })
    await other.reach(elsewhere.id, 'calibrating')
    await cancelUpdate(testDeps(), elsewhere.id)
    expect(await textsOf(dataset ?? '')).not.toEqual([])
    const next = await startUpdate('kept', ['kept-a'], { samples: 100 })
    await node.reach(next.id, 'calibrating')
    expect((await calibrationOf(next.id)).datasets.map(({ sha256 }) => sha256)).toEqual([dataset])
    await cancelUpdate(testDeps(), next.id)
    expect(await newSamples('kept', 'kept-a')).toBe(all)
    expect(await textsOf(dataset ?? '')).toEqual([])
  })

  test('take no calls where the update froze nothing, as one of an imported mask, which may name hundreds of domains', async () => {
    await newNode('imported')
    const domains = Array.from({ length: 256 }, (_, index) => `imported-${index}`)
    const id = await seedUpdate('imported', 1, { state: 'cancelled', finishedAt: 1, domains, datasets: [] })
    const update = await findUpdate(db, id)
    if (!update) throw new Error('no update')
    const metered = meterDeps(testDeps(), createCallBudget(0))
    await expect(releaseFrozenTexts(metered, update)).resolves.toBeUndefined()
  })

  test('are given back by the next update that collects, however many others ended between, by few calls', async () => {
    const node = await newNode('many')
    await importTexts('many-a')
    const { id } = await startUpdate('many', ['many-a'])
    await node.reach(id, 'calibrating')
    const [dataset] = (await findUpdate(db, id))?.datasets ?? []
    const end = "state = 'failed', error_code = 'gate_failed', finished_at = 1, revision = revision + 1"
    await env.DB.prepare(`update updates set ${end} where id = ?`).bind(id).run()
    // Imported masks that the gate rejected, of more domains than an event may make calls.
    const domains = JSON.stringify(Array.from({ length: 1_000 }, (_, index) => `many-${index}`))
    await env.DB.exec(
      'INSERT INTO updates (id, model, domains, method, pattern, scope, samples, length, seed, state, datasets, created_at, finished_at) ' +
        'WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 60) ' +
        `SELECT 'many-' || n, 'many', '${domains}', 'm', '0.5', 'row', 1, 16, 0, 'failed', '[]', ${Date.now()} + n, 1 FROM numbers`,
    )
    const deps = testDeps({ nowMs: () => Date.now() + 61_000 })
    let calls = 0
    const reservoir = (name: string) => {
      calls += 1
      return deps.reservoir(name)
    }
    const request = { model: 'many', domains: ['many-a'], selection: {}, samples: 2, length: 64, seed: 0 }
    const next = await createUpdate(deps, request)
    await advanceUpdate({ ...deps, reservoir }, next.id)
    expect((await findUpdate(db, next.id))?.datasets).toEqual([dataset])
    expect(calls).toBeLessThan(100)
    await cancelUpdate(testDeps(), next.id)
  })

  test('are given back by the next update if the gateway stopped before', async () => {
    const node = await newNode('stopped')
    await importTexts('stopped-a')
    const all = await newSamples('stopped', 'stopped-a')
    const { id } = await startUpdate('stopped', ['stopped-a'])
    await node.reach(id, 'calibrating')
    await env.DB.prepare(
      "update updates set state = 'failed', finished_at = 1, revision = revision + 1 where id = ?",
    )
      .bind(id)
      .run()
    expect(await newSamples('stopped', 'stopped-a')).toBeLessThan(all)
    const [dataset] = (await findUpdate(db, id))?.datasets ?? []
    const job = await runUpdate(node, 'stopped', ['stopped-a'])
    expect(job.datasets.map(({ sha256 }) => sha256)).toEqual([dataset])
  })
})

test('collecting may be interrupted at any call, and goes on with the same texts', async () => {
  const domains = ['torn-a', 'torn-b']
  await newNode('torn')
  for (const domain of domains) await importTexts(domain)
  const request = { model: 'torn', domains, selection: {}, samples: 2, length: 64, seed: 0 }
  const control = await createUpdate(testDeps(), request)
  await advanceUpdate(testDeps(), control.id)
  const expected = (await findUpdate(db, control.id))?.datasets ?? []
  expect(expected).toHaveLength(2)
  await cancelUpdate(testDeps(), control.id)
  let calls = 0
  for (let stopAt = 1; ; stopAt += 1) {
    const { id } = await createUpdate(testDeps(), request)
    calls = 0
    // The isolate is lost at a call of a reservoir or of the bucket, before or after it has an effect.
    const tearing = <T extends object>(target: T): T =>
      new Proxy(target, {
        get(object, name) {
          const member: unknown = Reflect.get(object, name, object)
          if (typeof member !== 'function') return member
          return async (...parameters: unknown[]): Promise<unknown> => {
            if (++calls === stopAt) throw new Error('lost before')
            const result: unknown = await Reflect.apply(member, object, parameters)
            if (++calls === stopAt) throw new Error('lost after')
            return result
          }
        },
      })
    const deps = testDeps()
    const torn = {
      ...deps,
      artifacts: tearing(deps.artifacts),
      reservoir: (name: string) => tearing(deps.reservoir(name)),
    }
    const attempt = advanceUpdate(torn, id)
    const isWhole = await attempt.then(
      () => true,
      () => false,
    )
    await advanceUpdate(testDeps(), id)
    expect(await findUpdate(db, id)).toMatchObject({ state: 'calibrating', datasets: expected })
    await cancelUpdate(testDeps(), id)
    if (isWhole) break
  }
  // Two domains: marks of old texts, counts, texts twice, and the file.
  expect(calls).toBeGreaterThan(16)
})

/** Dependencies of a call that collects and is not asked to describe texts, and that `meanwhile` befalls when it freezes. */
function collecting(meanwhile: () => Promise<unknown>) {
  const deps = testDeps({ nowMs: () => Date.now() + 61_000 })
  let isFirst = true
  const artifacts = new Proxy(deps.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      if (name !== 'put') return bucket[name].bind(bucket)
      return async (...parameters: Parameters<R2Bucket['put']>) => {
        if (isFirst) await meanwhile()
        isFirst = false
        return bucket.put(...parameters)
      }
    },
  })
  return { ...deps, artifacts }
}

test('of two calls that collect, the one that is too late gives back what only it has taken', async () => {
  const node = await newNode('twice')
  const domains = ['twice-a', 'twice-b']
  for (const domain of domains) await importTexts(domain)
  const first = await startUpdate('twice', ['twice-a'], { samples: 100 })
  expect((await node.finish(first.id)).state).toBe('promoted')
  const request = { model: 'twice', domains, selection: {}, samples: 2, length: 64, seed: 0 }
  const update = await createUpdate(testDeps(), request)
  const early = await collect(
    collecting(async () => undefined),
    update,
  )
  expect(early?.patch.datasets).toHaveLength(1)

  await importTexts('twice-a', 80, 'twice later')
  const stats = () => testDeps().reservoir('twice-a').stats('twice')
  const { newSamples } = await stats()
  const late = collecting(async () => early && moveUpdate(testDeps(), update, early))
  await advanceUpdate(late, update.id)
  expect((await findUpdate(db, update.id))?.datasets).toEqual(early?.patch.datasets)
  expect((await stats()).newSamples).toBe(newSamples)
})

test('a call that is too late gives back what it has taken also for an update that ended with no dataset', async () => {
  const node = await newNode('late')
  await importTexts('late-a')
  const first = await startUpdate('late', ['late-a'], { samples: 100 })
  expect((await node.finish(first.id)).state).toBe('promoted')
  const request = { model: 'late', domains: ['late-a'], selection: {}, samples: 2, length: 64, seed: 0 }
  const update = await createUpdate(testDeps(), request)
  const early = await collect(
    collecting(async () => undefined),
    update,
  )
  expect(early?.patch.datasets).toEqual([])
  await importTexts('late-a', 80, 'late later')
  const stats = () => testDeps().reservoir('late-a').stats('late')
  const { newSamples } = await stats()
  // Meanwhile another event finds too little text, and the update is cancelled.
  const late = collecting(async () => {
    if (early) await moveUpdate(testDeps(), update, early)
    await cancelUpdate(testDeps(), update.id)
  })
  await advanceUpdate(late, update.id)
  expect(await findUpdate(db, update.id)).toMatchObject({ state: 'cancelled', datasets: [] })
  expect((await stats()).newSamples).toBe(newSamples)
})

test('a running update keeps what it has taken while it collects, also when it has recorded a dataset', async () => {
  await newNode('still')
  for (const domain of ['still-a', 'still-b']) await importTexts(domain)
  const request = {
    model: 'still',
    domains: ['still-a', 'still-b'],
    selection: {},
    samples: 2,
    length: 64,
    seed: 0,
  }
  const { id } = await createUpdate(testDeps(), request)
  let frozen = 0
  const stopped = collecting(async () => undefined)
  const artifacts = new Proxy(stopped.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      if (name === 'put' && ++frozen === 2) throw new Error('the isolate is lost')
      return bucket[name].bind(bucket)
    },
  })
  await expect(advanceUpdate({ ...stopped, artifacts }, id)).rejects.toThrow('lost')
  const update = await findUpdate(db, id)
  if (!update) throw new Error('no update')
  expect(update).toMatchObject({ state: 'collecting', datasets: [expect.any(String) as string] })
  const stats = () => testDeps().reservoir('still-b').stats('still')
  const { newSamples } = await stats()
  await releaseUncollected(testDeps(), update)
  expect((await stats()).newSamples).toBe(newSamples)
  await cancelUpdate(testDeps(), id)
})

test('of two events that freeze other texts of a domain, both go on with the dataset that was recorded first', async () => {
  await newNode('both')
  await importTexts('both-a')
  const request = { model: 'both', domains: ['both-a'], selection: {}, samples: 2, length: 64, seed: 0 }
  const update = await createUpdate(testDeps(), request)
  const freeze = (text: string) => freezeDataset(testDeps(), 'both-a', [{ text, sources: [] }])
  const [first, second] = [await freeze('before a text of it was deleted'), await freeze('after it')]
  const events = async () => {
    const kept = [await noteDataset(db, update, first), await noteDataset(db, update, second)]
    expect(kept).toEqual([first.sha256, first.sha256])
    expect((await findUpdate(db, update.id))?.datasets).toEqual([first.sha256])
  }
  await advanceUpdate(collecting(events), update.id)
  expect(await findUpdate(db, update.id)).toMatchObject({ state: 'calibrating', datasets: [first.sha256] })
  await cancelUpdate(testDeps(), update.id)
})

test('the parent of an update is the mask that is active when its texts are frozen', async () => {
  await newNode('moved')
  await seedMasks('moved', [1, 2])
  await importTexts('moved-a')
  const request = { model: 'moved', domains: ['moved-a'], selection: {}, samples: 2, length: 64, seed: 0 }
  const { id } = await createUpdate(testDeps(), request)
  await advanceUpdate(
    collecting(() => activate('moved', 2)),
    id,
  )
  expect(await findUpdate(db, id)).toMatchObject({ state: 'calibrating', parentVersion: 2 })
})
