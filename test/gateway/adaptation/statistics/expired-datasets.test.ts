import { env } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { datasetKey, statisticsKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { expireDatasets } from '../../../../gateway/src/storage/artifacts/expire-datasets.ts'
import { sweepArtifacts } from '../../../../gateway/src/storage/artifacts/sweep-artifacts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findLatestHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import {
  forgetStatistics,
  insertStatistics,
} from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { datasets } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { adminJson, importTexts, startUpdate, testDeps } from '../../support/doubles/simulated-node.ts'
import { calibrationOf, newNode, runUpdate, textsOf } from '../../support/doubles/whole-updates.ts'
import { setPolicy } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
const DAY_MS = 24 * 60 * 60 * 1000

/** Runs the cron task a number of days from now. */
const expireAfter = (days: number, datasetDays = 90, artifacts = env.ARTIFACTS) =>
  expireDatasets(testDeps({ datasetDays, artifacts, nowMs: () => Date.now() + days * DAY_MS }))

/** Stores an artifact that sums some datasets of a domain. */
async function storeSum(model: string, domain: string, digit: string, hashes: string[]): Promise<string> {
  const artifact = digit.repeat(64)
  await env.ARTIFACTS.put(statisticsKey(artifact, 'manifest.json'), '{}')
  await insertStatistics(db, { model, artifact, domain, datasets: hashes.toSorted(), bytes: 2, createdAt: 1 })
  return artifact
}

/** A model with two counted datasets of a domain that is called like it. */
async function twoUpdates(model: string) {
  const node = await newNode(model)
  // No node describes texts here, which the update would wait for.
  await setPolicy(model, { influence: { outlier_deviations: null } })
  await importTexts(model)
  await runUpdate(node, model, [model])
  await runUpdate(node, model, [model])
  const hashes = (await listCounted(db, model)).map(({ sha256 }) => sha256)
  expect(hashes).toHaveLength(2)
  return { node, hashes }
}

test('texts that count expire when their sums are stored, and the next job names them as expired', async () => {
  const { node, hashes } = await twoUpdates('ageing')
  await expireAfter(91)
  for (const hash of hashes) expect(await textsOf(hash)).not.toEqual([])
  const artifact = await storeSum('ageing', 'ageing', 'a', hashes)
  await expireAfter(89)
  await expireAfter(91, 0)
  for (const hash of hashes) expect(await textsOf(hash)).not.toEqual([])
  const running = await startUpdate('ageing', ['ageing'])
  await expireAfter(91)
  for (const hash of hashes) expect(await textsOf(hash)).not.toEqual([])
  await node.finish(running.id)
  const own = (await calibrationOf(running.id)).datasets.map(({ sha256 }) => sha256)

  await expireAfter(91)
  for (const hash of hashes) expect(await env.ARTIFACTS.head(datasetKey(hash))).toBeNull()
  // Its statistics are not stored, so this one can only be calibrated again.
  for (const hash of own) expect(await textsOf(hash)).not.toEqual([])
  const holdout = await findLatestHoldout(db, 'ageing')
  expect(await textsOf(holdout?.sha256)).not.toEqual([])
  for (let tick = 0; tick < 16; tick += 1)
    await sweepArtifacts(testDeps({ nowMs: () => Date.now() + 92 * DAY_MS + tick * 300_000 }))
  expect(await textsOf(holdout?.sha256)).not.toEqual([])

  await importTexts('ageing', 40, 'ageing more')
  const job = await runUpdate(node, 'ageing', ['ageing'])
  expect(job.accumulated.map(({ sha256, expired }) => [sha256, expired])).toEqual([
    ...hashes.map((hash) => [hash, true]),
    ...own.map((hash) => [hash, undefined]),
  ])
  expect(job.statistics?.map((ref) => ref.artifact)).toEqual([artifact])
  const deleted = await adminJson<DeletedSamples>('DELETE', '/samples?key=key_of_somebody')
  expect(deleted.kept).toContainEqual({ domain: 'ageing', datasets: 2 })
  expect(await listCounted(db, 'ageing')).toHaveLength(4)
})

test('expired texts whose statistics are lost stop to count, and the update goes on', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  const { node, hashes } = await twoUpdates('losing')
  const [first = '', second = ''] = hashes
  const artifact = await storeSum('losing', 'losing', 'b', [first])
  const mixed = await storeSum('losing', 'losing', 'c', [first, second])
  await expireAfter(91)
  for (const hash of hashes) expect(await textsOf(hash)).toEqual([])
  // As a deletion of a text of another dataset does that it sums.
  await forgetStatistics(db, mixed)
  const job = await runUpdate(node, 'losing', ['losing'])
  expect(job.accumulated.map(({ sha256 }) => sha256)).toEqual([first])
  expect(job.statistics?.map((ref) => ref.artifact)).toEqual([artifact])
  expect(warn.mock.calls.flat().join('\n')).toContain("1 datasets of 'losing' have expired")
  const { data } = await adminJson<{ data: unknown[] }>('GET', '/audit?limit=500')
  expect(data).toContainEqual(
    expect.objectContaining({ action: 'statistics.lost', target: 'losing losing', before: [second] }),
  )
  // An artifact without files is as good as none.
  await env.ARTIFACTS.delete(statisticsKey(artifact, 'manifest.json'))
  expect((await runUpdate(node, 'losing', ['losing'])).accumulated.map(({ expired }) => expired)).toEqual([
    undefined,
  ])
})

test('a failed deletion in R2 is repeated by the sweep, and texts that are frozen again do not stay expired', async () => {
  const { hashes } = await twoUpdates('again')
  const [hash = ''] = hashes
  const texts = (await readDataset(testDeps(), hash)) ?? []
  await storeSum('again', 'again', 'd', hashes)
  const failing = new Proxy(env.ARTIFACTS, {
    get: (bucket, name) => {
      if (name === 'delete') return () => Promise.reject(new Error('R2 is away'))
      const member: unknown = Reflect.get(bucket, name, bucket)
      return typeof member === 'function' ? (member.bind(bucket) as unknown) : member
    },
  })
  await expect(expireAfter(91, 90, failing)).rejects.toThrow('R2 is away')
  expect(await textsOf(hash)).not.toEqual([])
  for (let tick = 0; tick < 16; tick += 1)
    await sweepArtifacts(testDeps({ nowMs: () => Date.now() + 92 * DAY_MS + tick * 300_000 }))
  expect(await textsOf(hash)).toEqual([])
  expect((await freezeDataset(testDeps(), 'again', texts)).sha256).toBe(hash)
  const row = await db.select().from(datasets).where(eq(datasets.sha256, hash)).get()
  expect(row).toMatchObject({ expiredAt: null })
  expect(await textsOf(hash)).not.toEqual([])
})

test('texts of updates that were rolled back expire, whether they were summed or not', async () => {
  const { hashes } = await twoUpdates('undone')
  await adminJson('POST', '/rollback', { model: 'undone', version: 0 })
  expect(await listCounted(db, 'undone')).toEqual([])
  await expireAfter(91)
  for (const hash of hashes) expect(await textsOf(hash)).toEqual([])
})
