import { env } from 'cloudflare:workers'
import { expect, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { forgetDatasets, listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { claimUnusedFiles } from '../../../../gateway/src/storage/db/queries/file-claim-queries.ts'
import {
  findLatestHoldout,
  insertHoldout,
} from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import {
  insertStatistics,
  listStatistics,
} from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { batches } from '../../../../gateway/src/storage/db/schema/updates.ts'
import { deleteDomain, deleteTexts } from '../../../../gateway/src/adaptation/domains/domain-deletion.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import type { SampleSource, StoredText } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
const remove = (domain: string, query: string) => adminJson('DELETE', `/domains/${domain}/samples?${query}`)

const sourceOf = (keyId: string, changes: Partial<SampleSource> = {}): SampleSource => ({
  requestId: `request of ${keyId}`,
  keyId,
  tenant: `tenant of ${keyId}`,
  conversation: 'c',
  consentVersion: 1,
  ...changes,
})
const wrote = (keyId: string) => ({ text: `${keyId} wrote`, sources: [sourceOf(keyId)] })

/** Stores a dataset as a batch of a model that has the domain's name. */
async function storeBatch(domain: string, texts: readonly StoredText[]): Promise<string> {
  await ensureDomains(db, [domain], 0)
  const { sha256 } = await freezeDataset(testDeps({ nowMs: () => texts.length }), domain, texts)
  await db.insert(batches).values({
    model: domain,
    datasetSha256: sha256,
    domain,
    updateId: `update of ${texts.length}`,
    state: 'counted',
    createdAt: texts.length,
  })
  return sha256
}

/** Returns the texts of a model's only counted dataset. */
async function countedTexts(model: string): Promise<StoredText[] | undefined> {
  const counted = await listCounted(db, model)
  expect(counted).toHaveLength(1)
  return readDataset(testDeps(), counted[0]?.sha256 ?? '')
}

test('two datasets with the same remaining texts count once', async () => {
  await storeBatch('same', [wrote('stays')])
  await storeBatch('same', [wrote('stays'), wrote('leaves')])
  expect(await remove('same', 'key=leaves')).toMatchObject({ deleted_frozen: 1 })
  expect(await countedTexts('same')).toEqual([wrote('stays')])
})

test('a frozen text that two keys sent stays for the other key, and is gone with the last one', async () => {
  const [hers, his] = [sourceOf('hers'), sourceOf('his')]
  const texts = [{ text: 'the same', sources: [hers, his] }, wrote('third')]
  const hash = await storeBatch('two-keys', texts)
  await insertHoldout(db, {
    domain: 'two-keys',
    version: 1,
    sha256: hash,
    samples: 2,
    characters: 16,
    createdAt: 0,
  })
  expect(await remove('two-keys', 'key=hers')).toMatchObject({ deleted_frozen: 1 })
  const left = [{ text: 'the same', sources: [his] }, wrote('third')]
  expect(await countedTexts('two-keys')).toEqual(left)
  // They are as old as before, for a policy by which old texts count less.
  expect(await listCounted(db, 'two-keys')).toMatchObject([{ createdAt: texts.length }])
  const holdout = await findLatestHoldout(db, 'two-keys')
  expect(await readDataset(testDeps(), holdout?.sha256 ?? '')).toEqual(left)
  expect(await env.ARTIFACTS.head(datasetKey(hash))).toBeNull()
  expect(await remove('two-keys', 'key=his')).toMatchObject({ deleted_frozen: 1 })
  expect(await countedTexts('two-keys')).toEqual([wrote('third')])
})

test('the remaining texts of an old dataset are kept from a sweep that deletes the same texts', async () => {
  await storeBatch('kept-from-sweeps', [wrote('stays'), wrote('leaves')])
  await remove('kept-from-sweeps', 'key=leaves')
  const [{ sha256 } = { sha256: '' }] = await listCounted(db, 'kept-from-sweeps')
  const beforeMs = Date.now() - 60_000
  expect(await claimUnusedFiles(db, [datasetKey(sha256)], { beforeMs, nowMs: Date.now() })).toEqual([])
})

test('texts of one request are deleted, and those of a tenant, also where old ones name only its key', async () => {
  const { id } = await createKey({ tenant: 'leaving' })
  const texts = [
    wrote('stays'),
    { text: 'one request', sources: [sourceOf('stays', { requestId: 'req_1' })] },
    { text: 'of the tenant', sources: [sourceOf('unknown', { tenant: 'leaving' })] },
    { text: 'old', sources: [{ requestId: '', keyId: id, tenant: '', conversation: '', consentVersion: 0 }] },
  ]
  await storeBatch('filters', texts)
  expect(await remove('filters', 'request=req_1')).toMatchObject({ deleted_frozen: 1 })
  expect(await remove('filters', 'request=req_2&tenant=leaving')).toMatchObject({ deleted_frozen: 0 })
  expect(await remove('filters', 'tenant=leaving')).toMatchObject({ deleted_frozen: 2 })
  expect(await countedTexts('filters')).toEqual([wrote('stays')])
})

test('any number of records of datasets are deleted together', async () => {
  const hashes = Array.from({ length: 150 }, (_, index) => String(index).padStart(64, 'd'))
  await env.DB.batch(
    hashes.map((hash) =>
      env.DB.prepare(
        `insert into datasets (sha256, domain, samples, bytes, created_at) values (?, 'many', 1, 1, 1)`,
      ).bind(hash),
    ),
  )
  expect(await listDatasetsOf(db, 'many')).toHaveLength(150)
  await forgetDatasets(db, hashes)
  expect(await listDatasetsOf(db, 'many')).toEqual([])
})

test('texts that have expired are not looked for, because a request may make a thousand calls', async () => {
  const old = await storeBatch('expired', [wrote('leaves')])
  await storeBatch('expired', [wrote('stays')])
  await env.DB.prepare('update datasets set expired_at = 1 where sha256 = ?').bind(old).run()
  const deps = testDeps()
  let reads = 0
  const artifacts = new Proxy(deps.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      if (name === 'get') reads += 1
      return bucket[name].bind(bucket)
    },
  })
  await deleteTexts({ ...deps, artifacts }, 'expired', { keyId: 'leaves' })
  expect(reads).toBe(1)
})

test('a domain with more datasets than R2 deletes at once is deleted', async () => {
  await ensureDomains(db, ['busy'], 1)
  await env.DB.prepare(
    `with recursive n(i) as (select 1 union all select i + 1 from n where i < 1001)
     insert into datasets (sha256, domain, samples, bytes, created_at) select printf('b%063d', i), 'busy', 1, 1, 1 from n`,
  ).run()
  const last = `b${'1001'.padStart(63, '0')}`
  await env.ARTIFACTS.put(datasetKey(last), 'a text')
  const deps = testDeps()
  // The local R2 has no such maximum.
  const artifacts = new Proxy(deps.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      if (name !== 'delete') return bucket[name].bind(bucket)
      return async (keys: string | string[]) => {
        if (keys.length > 1000 && Array.isArray(keys)) throw new Error('delete: at most 1000 keys')
        await bucket.delete(keys)
      }
    },
  })
  await deleteDomain({ ...deps, artifacts }, 'busy')
  expect(await listDatasetsOf(db, 'busy')).toEqual([])
  expect(await env.ARTIFACTS.head(datasetKey(last))).toBeNull()
})

test('an interrupted deletion is completed by the next call', async () => {
  const summed = await storeBatch('broken', [wrote('stays'), wrote('leaves')])
  const statistics = { model: 'broken', domain: 'broken', datasets: [summed], bytes: 1, createdAt: 1 }
  await insertStatistics(db, { ...statistics, artifact: 'b'.repeat(64) })
  const deleteObjects = vi.fn<R2Bucket['delete']>().mockRejectedValueOnce(new Error('R2 is away'))
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(target, name) {
      if (name === 'delete') return deleteObjects
      const member: unknown = Reflect.get(target, name, target)
      return typeof member === 'function' ? (member.bind(target) as unknown) : member
    },
  })
  await expect(deleteTexts(testDeps({ artifacts }), 'broken', { keyId: 'leaves' })).rejects.toThrow(
    'R2 is away',
  )
  expect(await listDatasetsOf(db, 'broken')).toHaveLength(2)
  // Whatever fails afterwards, no sum over the text is left.
  expect(await listStatistics(db, 'broken')).toEqual([])
  await storeBatch('broken', [wrote('leaves')])
  await remove('broken', 'key=leaves')
  expect(await listDatasetsOf(db, 'broken')).toHaveLength(1)
  expect(await countedTexts('broken')).toEqual([wrote('stays')])
})
