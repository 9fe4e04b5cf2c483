import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { STATISTICS_MANIFEST, type StatisticsManifest } from '@copal/shared/wire/statistics-manifest.ts'
import { createCallBudget } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { statisticsKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import {
  deleteStaleStatistics,
  deleteStatisticsOf,
  findStored,
} from '../../../../gateway/src/storage/artifacts/statistics-files.ts'
import { forgetDatasets } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import {
  insertStatistics,
  listStatistics,
} from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { deleteDomain } from '../../../../gateway/src/adaptation/domains/domain-deletion.ts'
import { usableStatistics } from '../../../../gateway/src/adaptation/statistics/usable-statistics.ts'
import { batches } from '../../../../gateway/src/storage/db/schema/updates.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { signedCall, testDeps } from '../../support/doubles/simulated-node.ts'

const DAY_MS = 24 * 3_600_000
const encode = (text: string) => new Uint8Array(new TextEncoder().encode(text))
let counter = 0

/** Freezes a dataset of one text of its own. */
async function dataset(domain: string): Promise<string> {
  const text = `text ${counter++} of ${domain}`
  return (await freezeDataset(testDeps(), domain, [{ text, sources: [] }])).sha256
}

/** Runs the sweeps of the day after tomorrow, each of which looks through a part. */
async function sweepAll(artifacts: R2Bucket = env.ARTIFACTS): Promise<void> {
  for (let tick = 0; tick < 256; tick += 1)
    await deleteStaleStatistics(
      testDeps({ artifacts, nowMs: () => Date.now() + DAY_MS + 60_000 + tick * 300_000 }),
    )
}

interface Artifact {
  manifest: StatisticsManifest
  piece: Uint8Array<ArrayBuffer>
  path: string
}

async function artifactOf(
  model: string,
  domain: string,
  datasets: string[],
  tensors: readonly string[] = ['attention_input.square_norm'],
): Promise<Artifact> {
  const piece = encode(`a block of ${datasets.join(', ')}${tensors.join()}`)
  const hash = await sha256(piece)
  const artifact = await sha256(encode(`artifact ${hash}`))
  const manifest: StatisticsManifest = {
    formatVersion: 2,
    artifact,
    model,
    baseSha256: 'b'.repeat(64),
    domain,
    parts: datasets.map((datasetSha256) => ({ id: datasetSha256, datasetSha256, tokens: 10 })),
    blocks: [
      {
        tensors: Object.fromEntries(tensors.map((name) => [name, hash])),
        pieces: [{ sha256: hash, bytes: piece.byteLength }],
      },
    ],
  }
  return { manifest, piece, path: `/internal/statistics/${artifact}` }
}

async function upload({ manifest, piece, path }: Artifact): Promise<Response> {
  expect((await signedCall('PUT', `${path}/${await sha256(piece)}`, piece)).status).toBe(201)
  return signedCall('PUT', `${path}/manifest.json`, encode(JSON.stringify(manifest)))
}

const artifactsOf = async (model: string) =>
  (await listStatistics(testDeps().db, model)).map(({ artifact }) => artifact)
const filesOf = async ({ manifest }: Artifact) =>
  (await env.ARTIFACTS.list({ prefix: `statistics/${manifest.artifact}/` })).objects.length

test('an artifact is stored in pieces, listed once its manifest is there, and returned byte for byte', async () => {
  const hash = await dataset('stored')
  const one = await artifactOf('model-a', 'stored', [hash])
  const early = await signedCall('PUT', `${one.path}/manifest.json`, encode(JSON.stringify(one.manifest)))
  expect([early.status, (await errorOf(early)).code]).toEqual([404, 'not_found'])
  expect(await artifactsOf('model-a')).toEqual([])
  expect((await upload(one)).status).toBe(201)
  // Repeating it is harmless: a node may be killed before it reports.
  expect((await upload(one)).status).toBe(201)
  const [ref] = await listStatistics(testDeps().db, 'model-a')
  const bytes = one.piece.byteLength + JSON.stringify(one.manifest).length
  expect(ref).toEqual({ artifact: one.manifest.artifact, domain: 'stored', datasets: [hash], bytes })
  const manifest = await signedCall('GET', `${one.path}/manifest.json`)
  expect(await manifest.json()).toEqual(one.manifest)
  const piece = await signedCall('GET', `${one.path}/${await sha256(one.piece)}`)
  expect(new Uint8Array(await piece.arrayBuffer())).toEqual(one.piece)
})

test('pieces are checked against their hash, and calls without a signature are rejected', async () => {
  const one = await artifactOf('model-b', 'checked', [await dataset('checked')])
  const path = `${one.path}/${'c'.repeat(64)}`
  const wrong = await signedCall('PUT', path, one.piece)
  expect(wrong.status).toBe(401)
  const unsigned = await signedCall('GET', `${one.path}/manifest.json`, undefined, 'another secret')
  expect(unsigned.status).toBe(401)
  expect(await filesOf(one)).toBe(0)
})

test('a merged artifact replaces those that it contains, except ones with statistics that it lacks', async () => {
  const [a, b, c] = [await dataset('merged'), await dataset('merged'), await dataset('merged')]
  const [one, two, other] = [
    await artifactOf('model-c', 'merged', [a]),
    await artifactOf('model-c', 'merged', [b]),
    await artifactOf('model-c', 'merged', [c]),
  ]
  const full = await artifactOf('model-c', 'merged', [b], ['self_attn.q_proj.sensitivity'])
  for (const artifact of [one, two, other, full]) await upload(artifact)
  // `full` contains `two`, which has less.
  expect(await artifactsOf('model-c')).not.toContain(two.manifest.artifact)
  const sum = await artifactOf('model-c', 'merged', [a, b])
  await upload(sum)
  expect(await artifactsOf('model-c')).toEqual(
    [sum, other, full].map(({ manifest }) => manifest.artifact).toSorted(),
  )
  expect(await filesOf(one)).toBe(0)
  expect(await filesOf(sum)).toBe(2)
})

test('the largest sum with expired texts that a merged one contains stays, for a roll-back of the last update', async () => {
  const [a, b, c] = [await dataset('spare'), await dataset('spare'), await dataset('spare')]
  const one = await artifactOf('model-s', 'spare', [a])
  const two = await artifactOf('model-s', 'spare', [a, b])
  const other = await artifactOf('model-s', 'spare', [b])
  for (const artifact of [one, two, other]) await upload(artifact)
  await env.DB.prepare('update datasets set expired_at = 1 where sha256 = ?').bind(a).run()
  const three = await artifactOf('model-s', 'spare', [a, b, c])
  await upload(three)
  expect(await artifactsOf('model-s')).toEqual(
    [two, three].map(({ manifest }) => manifest.artifact).toSorted(),
  )
  const refs = await listStatistics(testDeps().db, 'model-s')
  const wanted = [a, b].map((hash) => ({ sha256: hash, domain: 'spare', samples: 1 }))
  expect(usableStatistics(refs, wanted).map(({ artifact }) => artifact)).toEqual([two.manifest.artifact])
})

test('statistics of a deleted dataset or domain are deleted, and cannot be stored afterwards', async () => {
  const deps = testDeps()
  const [kept, gone] = [await dataset('deleted'), await dataset('deleted')]
  const sum = await artifactOf('model-d', 'deleted', [kept, gone])
  const alone = await artifactOf('model-d', 'deleted', [kept])
  await upload(alone)
  await upload(sum)
  await forgetDatasets(deps.db, [gone])
  await deleteStatisticsOf(deps, [gone])
  expect(await artifactsOf('model-d')).toEqual([])
  expect(await filesOf(sum)).toBe(0)
  const late = await upload(sum)
  expect([late.status, (await errorOf(late)).code]).toEqual([404, 'not_found'])
  expect(await filesOf(sum)).toBe(0)
  expect((await upload(alone)).status).toBe(201)
  await deleteDomain(deps, 'deleted')
  expect(await artifactsOf('model-d')).toEqual([])
  expect(await filesOf(alone)).toBe(0)
})

test('a dataset of another domain is rejected', async () => {
  const one = await artifactOf('model-e', 'mine', [await dataset('theirs')])
  expect((await upload(one)).status).toBe(404)
  expect(await artifactsOf('model-e')).toEqual([])
})

test('files without a manifest are deleted after a day, and artifacts whose datasets are gone at once', async () => {
  const hash = await dataset('stale')
  const unfinished = await artifactOf('model-f', 'stale', [await dataset('stale')])
  await signedCall('PUT', `${unfinished.path}/${await sha256(unfinished.piece)}`, unfinished.piece)
  const whole = await artifactOf('model-f', 'stale', [await dataset('stale')])
  const orphan = await artifactOf('model-f', 'stale', [hash])
  await upload(whole)
  await upload(orphan)
  await forgetDatasets(testDeps().db, [hash])
  await deleteStaleStatistics(testDeps())
  expect([await filesOf(unfinished), await filesOf(whole), await filesOf(orphan)]).toEqual([1, 2, 0])
  await sweepAll()
  expect([await filesOf(unfinished), await filesOf(whole)]).toEqual([0, 2])
})

test('files without a manifest are found behind more files than a sweep looks through', async () => {
  const recorded = '0'.repeat(64)
  const datasets = [await dataset('many')]
  await insertStatistics(testDeps().db, {
    model: 'model-j',
    artifact: recorded,
    domain: 'many',
    datasets,
    bytes: 1,
    createdAt: 1,
  })
  for (let file = 0; file < 25; file += 1) await env.ARTIFACTS.put(statisticsKey(recorded, `${file}`), 'x')
  const unfinished = statisticsKey('f'.repeat(64), 'piece')
  await env.ARTIFACTS.put(unfinished, 'x')
  // Pages of one key: a sweep reads twenty of them.
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(bucket, name: keyof R2Bucket) {
      if (name !== 'list') return bucket[name].bind(bucket)
      return (options: R2ListOptions) => bucket.list({ ...options, limit: 1 })
    },
  })
  await sweepAll(artifacts)
  expect(await env.ARTIFACTS.head(unfinished)).toBeNull()
  expect(await env.ARTIFACTS.head(statisticsKey(recorded, '24'))).not.toBeNull()
})

test('statistics of texts that count no more since their update was rolled back from its canary are deleted', async () => {
  const names = ['canary', 'promoted', 'counted']
  const artifacts = await Promise.all(
    names.map(async (name) =>
      artifactOf(name === 'counted' ? 'model-h' : 'model-g', name, [await dataset(name)]),
    ),
  )
  for (const artifact of artifacts) await upload(artifact)
  const batch = (name: string, model: string, state: 'quarantined' | 'counted') => ({
    model,
    datasetSha256: artifacts[names.indexOf(name)]?.manifest.parts[0]?.datasetSha256 ?? '',
    updateId: `upd_${name}`,
    domain: name,
    state,
    createdAt: 1,
  })
  const { db } = testDeps()
  await db.insert(batches).values([
    batch('canary', 'model-g', 'quarantined'),
    // An operator may make this mask active again.
    batch('promoted', 'model-g', 'quarantined'),
    // The same weights have two names.
    batch('counted', 'model-h', 'quarantined'),
    batch('counted', 'model-i', 'counted'),
  ])
  await seedMasks('model-g', [1, 2], { active: null, promoted: [2] })
  await env.DB.prepare(
    "update masks set update_id = 'upd_promoted' where model = 'model-g' and version = 2",
  ).run()
  await deleteStaleStatistics(testDeps())
  expect(await Promise.all(artifacts.map(filesOf))).toEqual([0, 2, 2])
})

test('a job names only artifacts that sum none but its datasets', () => {
  const ref = (artifact: string, datasets: string[]) => ({ artifact, domain: 'd', datasets, bytes: 1 })
  const wanted = ['a', 'b'].map((hash) => ({ sha256: hash, domain: 'd', samples: 1 }))
  const stored = [ref('1', ['a']), ref('2', ['a', 'c']), ref('3', ['a', 'b'])]
  expect(usableStatistics(stored, wanted).map(({ artifact }) => artifact)).toEqual(['1', '3'])
})

test.each([3, 60])(
  'of %i recorded artifacts those are found whose files are there, by few calls',
  async (count) => {
    const ids = Array.from({ length: count }, (_, index) => `${count}-${index}`.padStart(64, '0'))
    for (const id of ids.slice(1)) {
      await env.ARTIFACTS.put(statisticsKey(id, 'piece'), 'a sum')
      await env.ARTIFACTS.put(statisticsKey(id, STATISTICS_MANIFEST), '{}')
    }
    const stored = await findStored(meterDeps(testDeps(), createCallBudget(3)), ids)
    expect([...stored].toSorted()).toEqual(ids.slice(1).toSorted())
  },
)

test('an artifact of as many datasets as a manifest may name fits into a row of D1, and one of more is rejected', async () => {
  const most = 10_000
  const hashOf = (index: number) => String(index).padStart(64, '0')
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n <= ?1)
      insert into datasets (sha256, domain, samples, bytes, created_at)
      select printf('%064d', n), 'old', 1, 1, 1 from numbers`,
  )
    .bind(most)
    .run()
  const hashes = Array.from({ length: most + 1 }, (_, index) => hashOf(index + 1))
  const full = await artifactOf('model-old', 'old', hashes.slice(0, most))
  expect((await upload(full)).status).toBe(201)
  const row = await env.DB.prepare(
    `select length(datasets) bytes from statistics where model = 'model-old'`,
  ).first()
  // A row has 2 MB at most.
  expect(row?.['bytes']).toBe(most * 67 + 1)
  expect((await listStatistics(testDeps().db, 'model-old'))[0]?.datasets).toHaveLength(most)
  const response = await upload(await artifactOf('model-old', 'old', hashes))
  expect([response.status, (await errorOf(response)).message]).toEqual([
    400,
    expect.stringMatching(/'parts'.*at most 10,?000 items/),
  ])
  expect(await artifactsOf('model-old')).toEqual([full.manifest.artifact])
})
