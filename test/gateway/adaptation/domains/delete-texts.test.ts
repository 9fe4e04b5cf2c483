import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { CalibrateJob, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findDatasets, listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)

/** Creates sampled requests of a key. */
async function sample(domain: string, keyId: string, count = 60): Promise<void> {
  await testDeps()
    .reservoir(domain)
    .offer(
      Array.from({ length: count }, (_, index) =>
        offeredSample(`${keyId} wrote text ${index} ${'words and more '.repeat(6)}`, {
          requestId: `${domain}-${keyId}-${index}`,
          keyId,
        }),
      ),
    )
}

/** Returns all frozen texts of a domain. */
async function frozenText(domain: string): Promise<string> {
  const objects = await Promise.all(
    (await listDatasetsOf(db, domain)).map((hash) => env.ARTIFACTS.get(datasetKey(hash))),
  )
  return (await Promise.all(objects.map(async (object) => object?.text()))).join('')
}

const deleteKey = (domain: string, key: string) => admin('DELETE', `/domains/${domain}/samples?key=${key}`)
const domainOf = async (name: string) =>
  (await adminJson<{ data: DomainEntry[] }>('GET', '/domains')).data.find((domain) => domain.name === name)

test("a key's texts are deleted from frozen datasets too, and the next update uses the remaining texts", async () => {
  const node = new SimulatedNode('forget-1', 'forget')
  await node.beat()
  await importTexts('forget')
  await sample('forget', 'key_leaves')
  await node.finish((await startUpdate('forget', ['forget'], { samples: 32 })).id)
  const frozen = await frozenText('forget')
  const [lines, texts] = [frozen.trim().split('\n').length, frozen.match(/key_leaves wrote/g)?.length ?? 0]
  expect(texts).toBeGreaterThan(10)
  await sample('forget', 'key_stays')
  const before = await listDatasetsOf(db, 'forget')

  expect(await (await deleteKey('forget', 'key_leaves')).json()).toMatchObject({
    domain: 'forget',
    deleted: expect.toSatisfy((deleted: number) => deleted > 0),
    deleted_frozen: texts,
  })
  const left = await frozenText('forget')
  expect(left).not.toContain('key_leaves')
  expect(left.trim().split('\n')).toHaveLength(lines - texts)
  for (const hash of before) expect(await env.ARTIFACTS.head(datasetKey(hash))).toBeNull()

  const [counted] = await listCounted(db, 'forget')
  const { id } = await startUpdate('forget', ['forget'])
  await node.reach(id, 'calibrating')
  await node.beat()
  const job = node.jobs[0] as CalibrateJob
  expect(job.accumulated.map(({ sha256 }) => sha256)).toEqual([counted?.sha256])
  await node.reach(id, 'evaluating')
  await node.beat()
  const [holdout] = (node.jobs[0] as EvaluateJob).holdouts
  expect(await findDatasets(db, [holdout?.sha256 ?? ''])).toMatchObject([{ samples: holdout?.samples }])
  expect(await domainOf('forget')).toMatchObject({ holdout_samples: holdout?.samples })
  await node.finish(id)
  expect(await (await deleteKey('forget', 'key_leaves')).json()).toMatchObject({
    deleted: 0,
    deleted_frozen: 0,
  })
})

test('a dataset without remaining texts no longer counts, and neither does a holdout', async () => {
  const node = new SimulatedNode('alone-1', 'alone')
  await node.beat()
  await sample('alone', 'key_alone', 240)
  await node.finish((await startUpdate('alone', ['alone'])).id)
  expect(await domainOf('alone')).toMatchObject({ holdout_version: 1, calibrated_datasets: 1 })
  expect((await deleteKey('alone', 'key_alone')).status).toBe(200)
  expect(await listDatasetsOf(db, 'alone')).toEqual([])
  expect(await domainOf('alone')).toMatchObject({ samples: 0, holdout_version: null, calibrated_datasets: 0 })
  await sample('alone', 'key_other', 240)
  expect((await domainOf('alone'))?.holdout_samples).toBeGreaterThan(0)
  const again = await node.finish((await startUpdate('alone', ['alone'])).id)
  expect(again.state).toBe('promoted')
})

test('nothing is deleted while an update runs', async () => {
  const node = new SimulatedNode('busy-1', 'busy')
  await node.beat()
  await importTexts('busy')
  await sample('busy', 'key_busy')
  const { id } = await startUpdate('busy', ['busy'])
  const before = await domainOf('busy')
  const refused = await deleteKey('busy', 'key_busy')
  expect([refused.status, (await errorOf(refused)).message]).toEqual([
    409,
    expect.stringContaining(`Wait until it ends, or cancel it with 'POST /admin/updates/${id}/cancel'.`),
  ])
  expect(await domainOf('busy')).toEqual(before)
  await node.finish(id)
})
