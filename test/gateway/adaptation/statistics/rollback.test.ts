import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import {
  adminJson,
  getUpdate,
  importTexts,
  type SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { calibrationOf, newNode } from '../../support/doubles/whole-updates.ts'
import { batchRowsOf, jobRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const rollBack = (model: string, version: number) => adminJson('POST', '/rollback', { model, version })
const countedDomains = async (model: string) => (await listCounted(db, model)).map(({ domain }) => domain)

/** Runs a whole update and returns its id. */
async function update(node: SimulatedNode, model: string, domain: string): Promise<string> {
  const { id } = await startUpdate(model, [domain])
  expect((await node.finish(id)).state).toBe('promoted')
  return id
}

/** Returns what the job of an update reads. */
async function inputOf(updateId: string): Promise<Pick<CalibrateJob, 'datasets' | 'accumulated'>> {
  const { datasets, accumulated } = await calibrationOf(updateId)
  return { datasets, accumulated }
}

/** Returns the number of a domain's texts that no update of a model has, and the texts of an update's dataset. */
async function textsOf(model: string, domain: string, updateId: string) {
  const [dataset = ''] = (await findUpdate(db, updateId))?.datasets ?? []
  const { newSamples } = await testDeps().reservoir(domain).stats(model)
  return { newSamples, frozen: await readDataset(testDeps(), dataset) }
}

test('after m3 was rolled back to m1, the next update reads exactly what one would that never saw m2 and m3', async () => {
  const [seen, never] = [await newNode('seen'), await newNode('never')]
  for (const domain of ['line-a', 'line-b', 'line-c', 'line-d']) await importTexts(domain)
  const ids: string[] = []
  for (const domain of ['line-a', 'line-b', 'line-c']) ids.push(await update(seen, 'seen', domain))
  await update(never, 'never', 'line-a')
  expect(await countedDomains('seen')).toEqual(['line-a', 'line-b', 'line-c'])

  await rollBack('seen', 1)
  expect(await countedDomains('seen')).toEqual(['line-a'])
  expect(await Promise.all(ids.map(async (id) => (await getUpdate(id)).state))).toEqual([
    'promoted',
    'rolled_back',
    'rolled_back',
  ])
  for (const id of ids.slice(1)) expect(await batchRowsOf(id)).toMatchObject([{ state: 'quarantined' }])
  const [next, control] = [await update(seen, 'seen', 'line-d'), await update(never, 'never', 'line-d')]
  expect(await inputOf(next)).toEqual(await inputOf(control))
  expect(await getUpdate(next)).toMatchObject({ mask_version: 4, parent_version: 1 })

  // Their texts stay taken: a new update of the domain takes others.
  const again = await inputOf(await update(seen, 'seen', 'line-b'))
  const [old] = await batchRowsOf(ids[1] ?? '')
  expect(again.datasets[0]?.sha256).not.toBe(old?.datasetSha256)
  expect(again.accumulated.map(({ domain }) => domain)).toEqual(['line-a', 'line-d'])
})

test('rolling forward again counts again what was rolled back, and only along the line of the mask', async () => {
  const node = await newNode('forth')
  for (const domain of ['forth-a', 'forth-b', 'forth-c', 'forth-d']) await importTexts(domain)
  for (const domain of ['forth-a', 'forth-b', 'forth-c']) await update(node, 'forth', domain)
  await rollBack('forth', 0)
  expect(await countedDomains('forth')).toEqual([])
  await rollBack('forth', 2)
  expect(await countedDomains('forth')).toEqual(['forth-a', 'forth-b'])
  await rollBack('forth', 3)
  expect(await countedDomains('forth')).toEqual(['forth-a', 'forth-b', 'forth-c'])
  // m4 follows m1, so m3 is not of its line.
  await rollBack('forth', 1)
  await update(node, 'forth', 'forth-d')
  expect(await countedDomains('forth')).toEqual(['forth-a', 'forth-d'])
  await rollBack('forth', 3)
  expect(await countedDomains('forth')).toEqual(['forth-a', 'forth-b', 'forth-c'])
})

test('an update that has read what is rolled back fails, and one that has not goes on', async () => {
  const node = await newNode('meanwhile')
  for (const domain of ['mean-a', 'mean-b', 'mean-c']) await importTexts(domain)
  await update(node, 'meanwhile', 'mean-a')
  await update(node, 'meanwhile', 'mean-b')
  const before = await textsOf('meanwhile', 'mean-c', '')
  const reader = await startUpdate('meanwhile', ['mean-c'])
  await node.reach(reader.id, 'evaluating')
  expect((await textsOf('meanwhile', 'mean-c', reader.id)).newSamples).toBeLessThan(before.newSamples)
  const openJobs = async (id: string) =>
    (await jobRowsOf(id)).filter(({ state }) => state === 'queued' || state === 'running')
  expect(await openJobs(reader.id)).not.toEqual([])
  await rollBack('meanwhile', 1)
  const ended = { state: 'failed', ended_in: 'evaluating', error: { code: 'conflict' } }
  expect(await getUpdate(reader.id)).toMatchObject(ended)
  expect((await getUpdate(reader.id)).error?.message).toContain('rolled back')
  expect((await node.beat()).jobs).toEqual([])
  // It leaves nothing: neither jobs, nor a dataset, nor taken texts.
  expect(await openJobs(reader.id)).toEqual([])
  expect(await textsOf('meanwhile', 'mean-c', reader.id)).toEqual(before)
  expect(await findModel(db, 'meanwhile')).toMatchObject({ activeVersion: 1 })
  const next = await update(node, 'meanwhile', 'mean-c')
  expect((await inputOf(next)).accumulated.map(({ domain }) => domain)).toEqual(['mean-a'])
  // m1 is the parent, and its texts go on to count.
  const unaffected = await startUpdate('meanwhile', ['mean-c'])
  await node.reach(unaffected.id, 'calibrating')
  await rollBack('meanwhile', 0)
  expect((await getUpdate(unaffected.id)).state).toBe('failed')
})

test('a mask that the gate rejected cannot be forced after what it was selected from was rolled back', async () => {
  const node = await newNode('unforced')
  for (const domain of ['unf-a', 'unf-b']) await importTexts(domain)
  await update(node, 'unforced', 'unf-a')
  const before = await textsOf('unforced', 'unf-b', '')
  const { id } = await startUpdate('unforced', ['unf-b'])
  await node.reach(id, 'calibrating')
  await node.beat()
  await env.DB.prepare(
    "update updates set state = 'failed', error_code = 'gate_failed', error_message = '', finished_at = ? where id = ?",
  )
    .bind(Date.now(), id)
    .run()
  expect((await textsOf('unforced', 'unf-b', id)).frozen).not.toBeUndefined()
  await rollBack('unforced', 0)
  expect(await getUpdate(id)).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
  expect(await textsOf('unforced', 'unf-b', id)).toEqual(before)
})

test('a domain that a roll-back leaves without statistics gets back its newest retired batch', async () => {
  const node = await newNode('retired')
  await importTexts('retired-a')
  const [one, two, three] = [
    await update(node, 'retired', 'retired-a'),
    await update(node, 'retired', 'retired-a'),
    await update(node, 'retired', 'retired-a'),
  ]
  // As in a home of the version before, in which only the newest dataset of a domain counts.
  await env.DB.prepare("update batches set state = 'retired' where update_id in (?, ?)").bind(one, two).run()
  const states = async () =>
    Promise.all([one, two, three].map(async (id) => (await batchRowsOf(id))[0]?.state))
  await rollBack('retired', 2)
  expect(await states()).toEqual(['retired', 'counted', 'quarantined'])
})
