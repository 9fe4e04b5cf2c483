import { env } from 'cloudflare:workers'
import { applyD1Migrations, evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { beforeAll, expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { CalibrateJob, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { refreshCounts } from '../../../../gateway/src/adaptation/sampling/refresh-counts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted, listUnmarkedBatches } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { listEvaluations } from '../../../../gateway/src/storage/db/queries/evaluation-queries.ts'
import { listHoldouts } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { listReservoirCounts } from '../../../../gateway/src/storage/db/queries/reservoir-count-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { batches } from '../../../../gateway/src/storage/db/schema/updates.ts'
import { receipts } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { datasetKey, maskKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import {
  adminJson,
  importTexts,
  maskFile,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { receiptOf } from '../../support/requests/gateway-requests.ts'

/** A home of the version before, with three masks of one model: the third was rolled back to the second. */
const MODEL = 'home'
const db = openDatabase(env.DB)
const textOf = (domain: string, index: number) =>
  `${domain} text number ${index} ${'words and more '.repeat(32)}`
const hashes: Record<'early' | 'late' | 'undone' | 'mail' | 'held', string> = {
  early: '',
  late: '',
  undone: '',
  mail: '',
  held: '',
}

/** Stores a dataset as the version before did. */
async function storeDataset(name: keyof typeof hashes, domain: string, indices: number[], createdAt: number) {
  const lines = indices.map(
    (index) => `${JSON.stringify({ domain, key: 'key_old', text: textOf(domain, index) })}\n`,
  )
  const bytes = new TextEncoder().encode(lines.join(''))
  hashes[name] = await sha256(new Uint8Array(bytes))
  await env.ARTIFACTS.put(datasetKey(hashes[name]), bytes)
  await run(
    'insert into datasets (sha256, domain, samples, bytes, created_at) values (?, ?, ?, ?, ?)',
    hashes[name],
    domain,
    lines.length,
    bytes.byteLength,
    createdAt,
  )
}

async function run(query: string, ...values: (string | number | null)[]): Promise<void> {
  await env.DB.prepare(query)
    .bind(...values)
    .run()
}

async function storeUpdate(version: number, state: string, datasets: string[], domains: string[]) {
  const bytes = maskFile(`home ${version}`)
  const hash = await sha256(bytes)
  await env.ARTIFACTS.put(maskKey(hash), bytes)
  const parent = version === 1 ? null : version - 1
  await run(
    `insert into updates (id, model, domains, method, pattern, scope, samples, length, seed, state, revision, datasets,
      parent_version, mask_version, created_at, finished_at)
    values (?, ?, ?, 'copal', '0.5', 'row', 2, 64, 0, ?, 4, ?, ?, ?, ?, ?)`,
    `upd_${version}`,
    MODEL,
    JSON.stringify(domains),
    state,
    JSON.stringify(datasets),
    parent ?? 0,
    version,
    version,
    version,
  )
  await run(
    `insert into masks (model, version, sha256, parent_version, update_id, method, pattern, scope, sparsity, domains, bytes,
      created_at, promoted_at) values (?, ?, ?, ?, ?, 'copal', '0.5', 'row', 0.5, ?, ?, ?, ?)`,
    MODEL,
    version,
    hash,
    parent,
    `upd_${version}`,
    JSON.stringify(domains),
    bytes.byteLength,
    version,
    version,
  )
}

/** Fills the storage of a domain's reservoir as the version before did; its holdout is frozen. */
async function fillReservoir(domain: string, indices: number[]): Promise<void> {
  const stub = testDeps().reservoir(domain)
  const texts = await Promise.all(
    indices.map(async (index) => {
      const text = textOf(domain, index)
      return { text, hash: await sha256(new Uint8Array(new TextEncoder().encode(text))) }
    }),
  )
  await runInDurableObject(stub, async (_object, { storage }) => {
    await storage.deleteAll()
    storage.sql.exec(`
      CREATE TABLE samples (hash TEXT PRIMARY KEY, share TEXT NOT NULL, priority REAL NOT NULL, key_id TEXT NOT NULL,
        text TEXT NOT NULL, characters INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE requests (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
      INSERT INTO facts VALUES ('seed', 'old'), ('seen', 60), ('last_at_ms', 90), ('holdout_frozen', 1);`)
    for (const [index, { text, hash }] of texts.entries()) {
      storage.sql.exec(
        "INSERT INTO samples VALUES (?, 'pool', ?, 'key_old', ?, ?, ?)",
        hash,
        index / 100,
        text,
        text.length,
        Date.now(),
      )
    }
  })
  await evictDurableObject(stub)
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

beforeAll(async () => {
  const { results } = await env.DB.prepare(
    "select name from sqlite_master where type = 'table' and name not like '\\_cf%' escape '\\' and name not like 'sqlite%'",
  ).all<{ name: string }>()
  await env.DB.batch(results.map(({ name }) => env.DB.prepare(`drop table "${name}"`)))
  await applyD1Migrations(
    env.DB,
    env.TEST_MIGRATIONS.filter(({ name }) => name < '0011'),
  )
  await run(
    'insert into models (id, base_sha256, context_length, parameters, active_version, previous_version, revision, created_at) values (?, ?, 64, 100, 2, 3, 4, 1)',
    MODEL,
    'a'.repeat(64),
  )
  await storeDataset('early', 'legal', range(0, 10), 1)
  await storeDataset('late', 'legal', range(2, 14), 2)
  await storeDataset('undone', 'legal', range(3, 16), 3)
  await storeDataset('mail', 'mail', range(0, 8), 2)
  await storeDataset('held', 'legal', range(100, 112), 1)
  await storeUpdate(1, 'promoted', [hashes.early], ['legal'])
  await storeUpdate(2, 'promoted', [hashes.late, hashes.mail], ['legal', 'mail'])
  await storeUpdate(3, 'rolled_back', [hashes.undone], ['legal'])
  const counted = [
    [hashes.early, 'legal', 1],
    [hashes.late, 'legal', 2],
    [hashes.mail, 'mail', 2],
    [hashes.undone, 'legal', 3],
  ] as const
  for (const [hash, domain, version] of counted) {
    await run(
      'insert into accumulated values (?, ?, ?, ?, ?)',
      MODEL,
      hash,
      domain,
      `upd_${version}`,
      version,
    )
  }
  await run(
    "insert into domains values ('legal', ?, 12, 1, null), ('mail', null, null, 1, null)",
    hashes.held,
  )
  for (const version of [0, 1, 2]) {
    await run(
      'insert into evaluations values (?, ?, ?, ?, 1000, ?, 1)',
      MODEL,
      version,
      'legal',
      hashes.held,
      2 + version / 10,
    )
  }
  await run(
    `insert into receipts (request_id, node_id, model, domain, mask_version, prompt_tokens, completion_tokens, finish_reason,
      queue_ms, total_ms, estimated, created_at, key_id)
    values ('old-receipt', 'home-1', ?, 'legal', 2, 3, 4, 'error', 5, 6, 0, 7, 'key_old')`,
    MODEL,
  )
  await fillReservoir('legal', range(0, 60))
  await applyD1Migrations(env.DB, env.TEST_MIGRATIONS)
})

test('receipts are kept, without an error code, and those of today are stored beside them', async () => {
  const changes = {
    model: MODEL,
    finishReason: 'error',
    account: 'key_new',
    errorCode: 'node_failed',
  } as const
  await insertReceipts(db, 'home-1', [receiptOf('new-receipt', changes)], 'node', 8)
  expect(await db.select().from(receipts).orderBy(receipts.createdAt)).toMatchObject([
    { requestId: 'old-receipt', totalMs: 6, keyId: 'key_old', createdAt: 7, errorCode: null },
    { requestId: 'new-receipt', totalMs: 40, keyId: 'key_new', createdAt: 8, errorCode: 'node_failed' },
  ])
})

test('the newest dataset of each domain that was not rolled back counts, and the frozen holdout is version 1', async () => {
  const stored = await db.select().from(batches).orderBy(batches.createdAt, batches.domain)
  const state = { model: MODEL, tokens: null, marked: false }
  expect(stored).toEqual([
    {
      ...state,
      datasetSha256: hashes.early,
      updateId: 'upd_1',
      domain: 'legal',
      state: 'retired',
      createdAt: 1,
    },
    {
      ...state,
      datasetSha256: hashes.late,
      updateId: 'upd_2',
      domain: 'legal',
      state: 'counted',
      createdAt: 2,
    },
    {
      ...state,
      datasetSha256: hashes.mail,
      updateId: 'upd_2',
      domain: 'mail',
      state: 'counted',
      createdAt: 2,
    },
    {
      ...state,
      datasetSha256: hashes.undone,
      updateId: 'upd_3',
      domain: 'legal',
      state: 'quarantined',
      createdAt: 3,
    },
  ])
  const [holdout, ...others] = await listHoldouts(db)
  expect(others).toEqual([])
  expect(holdout).toMatchObject({ domain: 'legal', version: 1, sha256: hashes.held, samples: 12 })
  const characters = range(100, 112).reduce((sum, index) => sum + textOf('legal', index).length, 0)
  expect(Math.abs((holdout?.characters ?? 0) / characters - 1)).toBeLessThan(0.05)
})

test('the counts of samples, which that version did not store, are filled in by the task of every five minutes', async () => {
  expect(await listReservoirCounts(db)).toEqual(new Map())
  await refreshCounts(testDeps())
  const counts = await listReservoirCounts(db)
  expect([...counts.keys()].toSorted()).toEqual(['legal', 'mail'])
  expect(counts.get('legal')).toMatchObject({ samples: 60, seen: 60, models: {} })
})

test('losses of before name no numerics, so that the gate measures their masks once more', async () => {
  const cells = await listEvaluations(db, MODEL)
  expect(cells.map(({ version, nllMean, numerics }) => [version, nllMean, numerics])).toEqual([
    [0, 2, null],
    [1, 2.1, null],
    [2, 2.2, null],
  ])
})

test('the home goes on: a whole update reads no old text again, and R keeps its cells', async () => {
  const node = new SimulatedNode('home-1', MODEL)
  const beat = await node.beat()
  expect(beat.desired).toMatchObject({ active: { version: 2 }, previous: { version: 3 } })
  // Old texts, of datasets and of the holdout, are sent again.
  await adminJson('POST', '/domains/legal/texts', {
    texts: [...range(0, 16), ...range(100, 112)].map((index) => textOf('legal', index)),
  })
  await importTexts('legal', 40, 'new legal')
  const update = await startUpdate(MODEL, ['legal'], { samples: 60 })
  await node.reach(update.id, 'calibrating')
  await node.beat()
  const [job] = node.jobs as CalibrateJob[]
  expect(job?.accumulated.map(({ sha256: hash }) => hash)).toEqual([hashes.late, hashes.mail].toSorted())
  const taken = await readDataset(testDeps(), job?.datasets[0]?.sha256 ?? '')
  const old = [...range(0, 16), ...range(100, 112)].map((index) => textOf('legal', index))
  expect(taken?.length).toBeGreaterThan(20)
  expect(taken?.filter(({ text }) => old.includes(text))).toEqual([])
  // Those of the pool that no dataset had are new, and their key is known.
  expect(
    taken?.some(({ text, sources }) => text === textOf('legal', 20) && sources[0]?.keyId === 'key_old'),
  ).toBe(true)
  expect(await listUnmarkedBatches(db, ['legal'])).toEqual([])

  await node.reach(update.id, 'evaluating')
  await node.beat()
  const [evaluation] = node.jobs as EvaluateJob[]
  const holdout = evaluation?.holdouts.find(({ domain }) => domain === 'legal')
  expect(await node.finish(update.id)).toMatchObject({
    state: 'promoted',
    mask_version: 4,
    parent_version: 2,
  })
  expect((await listCounted(db, MODEL)).map(({ sha256: hash }) => hash)).toContain(job?.datasets[0]?.sha256)

  const { r } = await adminJson<DriftReport>('GET', `/drift?model=${MODEL}`)
  expect(r.stages.map(({ mask_version: version }) => version)).toEqual([0, 1, 2, 3, 4])
  const shown = r.holdouts.find(({ domain }) => domain === 'legal')
  expect(shown?.sha256).toBe(holdout?.sha256)
  const column = r.domains.indexOf('legal')
  expect(r.perplexity[4]?.[column]).not.toBeNull()
  const { data } = await adminJson<{ data: DomainEntry[] }>('GET', '/domains')
  expect(data.find(({ name }) => name === 'legal')).toMatchObject({
    holdout_frozen: true,
    holdout_version: shown?.version,
    calibrated_datasets: 2,
  })
})
