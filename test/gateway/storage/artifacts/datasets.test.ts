import { env } from 'cloudflare:workers'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { insertHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import {
  deleteUnusedDatasets,
  freezeDataset,
  readDataset,
} from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { cancelUpdate, createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import {
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'

const db = openDatabase(env.DB)
const isStored = async (hash: string) => (await testDeps().artifacts.head(datasetKey(hash))) !== null
const datasetsOf = async (id: string) => (await findUpdate(db, id))?.datasets ?? []

/** Creates a running update of a new model on `domain`, with its one frozen dataset. */
async function calibrating(model: string, domain: string) {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  const { id } = await startUpdate(model, [domain])
  await node.reach(id, 'calibrating')
  const [hash = ''] = await datasetsOf(id)
  expect(await isStored(hash)).toBe(true)
  return { node, id, hash }
}

/** Returns the bucket with a callback before each of its methods. */
function withBucket(bucket: R2Bucket, before: (name: string | symbol) => Promise<void> | void): R2Bucket {
  return new Proxy(bucket, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...parameters: unknown[]): Promise<unknown> => {
        await before(name)
        return Reflect.apply(member, target, parameters)
      }
    },
  })
}

async function fail(node: SimulatedNode) {
  await node.beat()
  const error = { code: 'node_failed', message: 'out of memory' }
  for (const { id } of node.jobs) node.report({ id, state: 'failed', progress: 0, message: 'failed', error })
  await node.beat()
}

test('the texts of several domains are frozen one after the other, and are never in memory together', async () => {
  const domains = ['apart-a', 'apart-b', 'apart-c']
  for (const domain of domains) await importTexts(domain)
  await new SimulatedNode('apart-1', 'apart').beat()
  const deps = testDeps()
  const seen: string[] = []
  const reservoir = (domain: string) => {
    const real = deps.reservoir(domain)
    return new Proxy(real, {
      get(target, name) {
        if (name === 'take') seen.push(`read ${domain}`)
        return Reflect.get(target, name, target) as unknown
      },
    })
  }
  const artifacts = withBucket(deps.artifacts, (name) => {
    if (name === 'put') seen.push('put')
  })
  const update = await createUpdate(deps, {
    model: 'apart',
    domains,
    selection: {},
    samples: 2,
    length: 64,
    seed: 0,
  })
  await advanceUpdate({ ...deps, reservoir, artifacts }, update.id)
  expect(seen).toEqual(domains.flatMap((domain) => [`read ${domain}`, 'put']))
  expect(await datasetsOf(update.id)).toHaveLength(3)
  await cancelUpdate(testDeps(), update.id)
})

test('cancelled and failed updates leave no dataset behind', async () => {
  await importTexts('gone')
  const cancelled = await calibrating('gone-cancelled', 'gone')
  await cancelUpdate(testDeps(), cancelled.id)
  expect(await isStored(cancelled.hash)).toBe(false)
  const failed = await calibrating('gone-failed', 'gone')
  await fail(failed.node)
  expect((await getUpdate(failed.id)).state).toBe('failed')
  expect(await isStored(failed.hash)).toBe(false)
  expect(await listDatasetsOf(db, 'gone')).toEqual([])
})

test('a dataset that another update needs stays until the last of them has been cancelled or failed', async () => {
  await importTexts('shared')
  const [first, second] = [await calibrating('shared-1', 'shared'), await calibrating('shared-2', 'shared')]
  expect(second.hash).toBe(first.hash)
  await cancelUpdate(testDeps(), first.id)
  expect(await isStored(first.hash)).toBe(true)
  await cancelUpdate(testDeps(), second.id)
  expect(await isStored(first.hash)).toBe(false)
})

test('a dataset stays while an update that collects its domain may be freezing the same texts', async () => {
  await importTexts('meeting')
  const { id, hash } = await calibrating('meeting-1', 'meeting')
  await new SimulatedNode('meeting-2', 'meeting-2').beat()
  const request = { samples: 2, length: 64, seed: 0, selection: { scope: 'row' as const } }
  const other = await createUpdate(testDeps(), { ...request, model: 'meeting-2', domains: ['meeting'] })
  expect(other.state).toBe('collecting')
  await cancelUpdate(testDeps(), id)
  expect(await isStored(hash)).toBe(true)
  await advanceUpdate(testDeps(), other.id)
  expect(await datasetsOf(other.id)).toEqual([hash])
  await cancelUpdate(testDeps(), other.id)
  expect(await isStored(hash)).toBe(false)
})

test('a dataset in the statistics of any model, or that is a holdout, stays', async () => {
  await importTexts('kept')
  const promoted = await calibrating('kept-promoted', 'kept')
  expect((await promoted.node.finish(promoted.id)).state).toBe('promoted')
  const cancelled = await calibrating('kept-cancelled', 'kept')
  expect(cancelled.hash).toBe(promoted.hash)
  await cancelUpdate(testDeps(), cancelled.id)
  expect(await isStored(promoted.hash)).toBe(true)
  await importTexts('held')
  const holdout = await freezeDataset(testDeps(), 'held', [{ text: 'a text', sources: [] }])
  await insertHoldout(db, { ...holdout, version: 1, characters: 6, createdAt: 0 })
  await deleteUnusedDatasets(testDeps(), [holdout.sha256])
  expect(await isStored(holdout.sha256)).toBe(true)
})

test('datasets frozen for an update that was cancelled meanwhile are deleted', async () => {
  await importTexts('between')
  await new SimulatedNode('between-1', 'between').beat()
  const request = { samples: 2, length: 64, seed: 0, selection: { scope: 'row' as const } }
  const update = await createUpdate(testDeps(), { ...request, model: 'between', domains: ['between'] })
  const { artifacts, ...deps } = testDeps()
  const cancelling = withBucket(artifacts, async (name) => {
    if (name === 'put') await cancelUpdate(testDeps(), update.id)
  })
  expect((await advanceUpdate({ ...deps, artifacts: cancelling }, update.id))?.state).toBe('cancelled')
  expect(await listDatasetsOf(db, 'between')).toEqual([])
})

test('an update is cancelled even if its datasets cannot be deleted, which is logged', async () => {
  await importTexts('stuck')
  const { id, hash } = await calibrating('stuck', 'stuck')
  const log = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => log.mockRestore())
  const { artifacts, ...deps } = testDeps()
  const stuck = withBucket(artifacts, (name) => {
    if (name === 'delete') throw new Error('R2 is away')
  })
  expect(await cancelUpdate({ ...deps, artifacts: stuck }, id)).toMatchObject({ state: 'cancelled' })
  expect(log).toHaveBeenCalledOnce()
  expect(await listDatasetsOf(db, 'stuck')).toContain(hash)
})

test('a dataset names the sources of each text, and lines of earlier versions name a key or nothing', async () => {
  const source = { requestId: 'r', keyId: 'k', tenant: 't', conversation: 'c', consentVersion: 2 }
  const texts = [{ text: 'one', sources: [source, { ...source, keyId: 'other' }] }]
  const { sha256: hash } = await freezeDataset(testDeps(), 'lines', texts)
  expect(await readDataset(testDeps(), hash)).toEqual(texts)
  // Equal texts give the same dataset, whatever the order of the fields.
  const reordered = Object.fromEntries(Object.entries(source).reverse()) as typeof source
  const again = await freezeDataset(testDeps(), 'lines', [
    { text: 'one', sources: [reordered, { ...reordered, keyId: 'other' }] },
  ])
  expect(again.sha256).toBe(hash)
  const old = '{"domain":"lines","key":"k","text":"of a key"}\n{"domain":"lines","text":"older"}\n'
  await env.ARTIFACTS.put(datasetKey('0'.repeat(64)), old)
  expect(await readDataset(testDeps(), '0'.repeat(64))).toEqual([
    {
      text: 'of a key',
      sources: [{ requestId: '', keyId: 'k', tenant: '', conversation: '', consentVersion: 0 }],
    },
    { text: 'older', sources: [] },
  ])
})
