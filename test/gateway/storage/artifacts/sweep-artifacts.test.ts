import { env } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import { createCallBudget } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { datasetKey, maskKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { deleteUnusedDatasets, freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { sweepArtifacts } from '../../../../gateway/src/storage/artifacts/sweep-artifacts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { listMasks, type MaskRow } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { masks, models } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { seedMasks, seedUpdate } from '../../support/state/seed-masks.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const TICK_MS = 5 * 60_000
const db = openDatabase(env.DB)

/** Runs the cron task as often as it takes to see all files, a number of days from now. */
async function sweepAll(days: number, maskDays = 1): Promise<void> {
  for (let tick = 0; tick < 16; tick += 1) {
    const nowMs = Date.now() + days * DAY_MS + tick * TICK_MS
    await sweepArtifacts(testDeps({ maskDays, nowMs: () => nowMs }))
  }
}

async function storedKeys(prefix: string): Promise<string[]> {
  return (await env.ARTIFACTS.list({ prefix })).objects.map(({ key }) => key)
}

async function seeded(model: string, count: number, active: number): Promise<MaskRow[]> {
  await sendHeartbeat({ id: `node-${model}`, url: 'http://127.0.0.1:1' }, model)
  const versions = Array.from({ length: count }, (_, index) => index + 1)
  await seedMasks(model, versions, { active })
  const rows = await listMasks(db, model, { limit: 1_000 })
  for (const { sha256 } of rows) await env.ARTIFACTS.put(maskKey(sha256), 'mask')
  return rows
}

/** Returns numbers below `bound` that follow from a seed. */
function numbersFrom(seed: number): (bound: number) => number {
  let state = seed
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
}

test.each([1, 2])('of a random graph exactly what is reachable stays (seed %i)', async (seed) => {
  const next = numbersFrom(seed)
  const model = `sweep-${seed}`
  const drawn = () => 1 + next(20)
  const rows = await seeded(model, 20, drawn())
  const roles = {
    previous: drawn(),
    canary: drawn(),
    shadow: drawn(),
    watch: drawn(),
    own: drawn(),
    pinned: drawn(),
  }
  await db
    .update(models)
    .set({
      previousVersion: roles.previous,
      canary: { version: roles.canary, share: 0.1, beside: 0, sinceMs: 1 },
      shadow: { version: roles.shadow, share: 0.1, beside: 0, sinceMs: 1 },
      watch: { version: roles.watch, beside: 0, sinceMs: 1, untilMs: 2 },
      domainVersions: new Map([['legal', roles.own]]),
    } as never)
    .where(eq(models.id, model))
  await adminJson('PUT', `/masks/${roles.pinned}/pin?model=${model}`)
  const active = rows.filter(({ promotedAt }) => promotedAt !== null).map(({ version }) => version)
  const reachable = new Set([...active, ...Object.values(roles)])

  await sweepAll(2)
  expect((await storedKeys('masks/')).length).toBeGreaterThanOrEqual(20)
  await sweepAll(4)
  const stored = new Set(await storedKeys('masks/'))
  const kept = rows.filter(({ sha256 }) => stored.has(maskKey(sha256))).map(({ version }) => version)
  expect(kept.toSorted((a, b) => a - b)).toEqual([...reachable].toSorted((a, b) => a - b))
})

test('garbage goes after a day, and what is in flight or recorded stays', async () => {
  const garbage = ['masks/', 'datasets/', 'classifiers/'].map((prefix) => prefix + 'e'.repeat(64))
  for (const key of garbage) await env.ARTIFACTS.put(key, 'x')
  await sweepAll(0)
  for (const key of garbage) expect(await env.ARTIFACTS.head(key)).not.toBeNull()
  await sweepAll(2)
  for (const key of garbage) expect(await env.ARTIFACTS.head(key)).toBeNull()
})

test('a sweep that has too few calls for all files of a digit goes on after them at the next turn, and then begins anew', async () => {
  const hashes = Array.from({ length: 1_001 }, (_, index) => `0${String(index).padStart(63, '0')}`)
  const last = hashes.pop() ?? ''
  await env.DB.prepare(
    `insert into classifiers (model, version, sha256, domains, texts, created_at)
      select 'm', key, value, '[]', 1, 1 from json_each(?)`,
  )
    .bind(JSON.stringify(hashes))
    .run()
  const put = (hash: string) => env.ARTIFACTS.put(`classifiers/${hash}`, 'x')
  for (let first = 0; first < hashes.length; first += 100)
    await Promise.all(hashes.slice(first, first + 100).map(put))
  const nowMs = Math.ceil((Date.now() + 2 * DAY_MS) / TICK_MS / 16) * 16 * TICK_MS
  const isStored = async (hash: string) => (await env.ARTIFACTS.head(`classifiers/${hash}`)) !== null
  /** Runs the task with calls for a thousand files of the last kind. */
  const sweepPage = () =>
    sweepArtifacts(meterDeps(testDeps({ maskDays: 0, nowMs: () => nowMs }), createCallBudget(20)))
  await put(last)
  await sweepPage()
  expect(await isStored(last)).toBe(true)
  await sweepPage()
  expect(await isStored(last)).toBe(false)
  // A file before the place where a run ended waits for the turn after the next.
  const first = '0'.repeat(64)
  await env.DB.prepare('delete from classifiers where sha256 = ?').bind(first).run()
  await put(last)
  await sweepPage()
  expect(await isStored(first)).toBe(false)
  expect(await isStored(last)).toBe(true)
})

test('a dataset that nothing needs, as one of an update that was interrupted, goes after a day with its record, and one of a rejected update after 30', async () => {
  await ensureDomains(db, ['legal'], 1)
  const freeze = async (text: string) =>
    (await freezeDataset(testDeps(), 'legal', [{ text, sources: [] }])).sha256
  const orphan = await freeze('of an update that ended before it had collected')
  const heldOut = await freeze('of a holdout')
  const holdout = { domain: 'legal', version: 1, sha256: heldOut, samples: 1, characters: 12, createdAt: 1 }
  await insertHoldout(db, holdout)
  const forceable = await freeze('of an update that the gate rejected')
  const rejected = { state: 'failed', errorCode: 'gate_failed', finishedAt: Date.now() } as const
  await seedUpdate('rejected', 1, { ...rejected, datasets: [forceable] })
  await sweepAll(0)
  expect(await listDatasetsOf(db, 'legal')).toEqual(expect.arrayContaining([orphan, heldOut, forceable]))
  await sweepAll(29)
  expect(new Set(await listDatasetsOf(db, 'legal'))).toEqual(new Set([heldOut, forceable]))
  await sweepAll(31)
  expect(await listDatasetsOf(db, 'legal')).toEqual([heldOut])
  expect(await env.ARTIFACTS.head(datasetKey(forceable))).toBeNull()
  expect(await env.ARTIFACTS.head(datasetKey(orphan))).toBeNull()
  expect(await env.ARTIFACTS.head(datasetKey(heldOut))).not.toBeNull()
})

test('a deletion that fails midway leaves a record without a file, which the next sweep deletes once the dataset is a day old', async () => {
  const { sha256 } = await freezeDataset(testDeps(), 'unrecorded', [{ text: 'a text', sources: [] }])
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const d1 = new Proxy(env.DB, {
    get(database, name: keyof D1Database) {
      if (name !== 'prepare') return database[name].bind(database)
      return (query: string) => {
        if (query.startsWith('delete')) throw new Error('D1 is away')
        return database.prepare(query)
      }
    },
  })
  await deleteUnusedDatasets(testDeps({ db: openDatabase(d1) }), [sha256])
  expect(error).toHaveBeenCalledOnce()
  expect(await env.ARTIFACTS.head(datasetKey(sha256))).toBeNull()
  await sweepAll(0)
  expect(await listDatasetsOf(db, 'unrecorded')).toEqual([sha256])
  await sweepAll(2)
  expect(await listDatasetsOf(db, 'unrecorded')).toEqual([])
})

test('a mask without a file says so, no roll-back returns to it, and without a retention none is given up', async () => {
  const rows = await seeded('swept', 3, 3)
  await db.update(masks).set({ promotedAt: 1 }).where(eq(masks.model, 'swept'))
  await sweepAll(2, 0)
  await sweepAll(4, 0)
  for (const { sha256 } of rows) expect(await env.ARTIFACTS.head(maskKey(sha256))).not.toBeNull()

  await db.update(masks).set({ sweptAt: 1 }).where(eq(masks.version, 1))
  const { data } = await adminJson<{ data: MaskEntry[] }>('GET', '/masks?model=swept')
  expect(data.map(({ swept_at }) => swept_at)).toEqual([null, null, '1970-01-01T00:00:00.001Z'])
  const refused = await admin('POST', '/rollback', { model: 'swept', version: 1 })
  expect(refused.status).toBe(409)
  expect((await errorOf(refused)).message).toMatch(/The file of mask m1 of 'swept' was deleted/)

  // A trial would let the file count as there.
  for (const kind of ['canary', 'shadow']) {
    const trial = await admin('PUT', `/${kind}`, { model: 'swept', mask_version: 1, share: 0.5 })
    expect(trial.status).toBe(409)
    expect((await errorOf(trial)).message).toMatch(/The file of mask m1 of 'swept' was deleted/)
  }

  // Pinned in time, the file stays.
  expect(await adminJson('PUT', '/masks/m1/pin?model=swept')).toMatchObject({ pinned: true, swept_at: null })
  expect(await adminJson('DELETE', '/masks/m1/pin?model=swept')).toMatchObject({ pinned: false })
})
