/** Tests that nothing of a deletion is lost when its calls are used up, or when it fails midway. */
import { env } from 'cloudflare:workers'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { createCallBudget, isCallsUsedUp, shareCalls } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { deleteTexts } from '../../../../gateway/src/adaptation/domains/domain-deletion.ts'
import {
  deleteSamplesOf,
  finishDeletions,
} from '../../../../gateway/src/adaptation/domains/sample-deletion.ts'
import { statisticsKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  insertPendingDeletions,
  listPendingDeletions,
  listUnbegunDeletions,
  SAMPLES_LEFT,
} from '../../../../gateway/src/storage/db/queries/pending-deletion-queries.ts'
import {
  insertStatistics,
  listStatistics,
} from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { seedMasks, seedUpdate } from '../../support/state/seed-masks.ts'
import { pendingAuditRows } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const DOMAIN = 'summed'
const MINUTE_MS = 60_000

/** Freezes a text of a key in a dataset that a number of artifacts of statistics sum. */
async function freeze(keyId: string, artifacts: number): Promise<void> {
  const texts = [{ text: `of ${keyId}`, sources: [offeredSample('', { keyId, requestId: keyId })] }]
  await summarise((await freezeDataset(testDeps(), DOMAIN, texts)).sha256, artifacts)
}

/** Stores artifacts of statistics that sum a dataset, each of one file. */
async function summarise(sha256: string, artifacts: number): Promise<void> {
  for (let number = 0; number < artifacts; number += 1) {
    const artifact = `${number}`.padStart(64, '0')
    await env.ARTIFACTS.put(statisticsKey(artifact, 'piece'), 'a sum')
    const row = { model: DOMAIN, domain: DOMAIN, datasets: [sha256], artifact, bytes: 5, createdAt: 1 }
    expect(await insertStatistics(db, row)).toBe(true)
  }
}

/** Freezes two texts of a key, each in a dataset of its own. Returns the hashes of the datasets. */
async function freezeTwo(keyId: string): Promise<string[]> {
  const hashes: string[] = []
  for (const number of [1, 2]) {
    const sources = [offeredSample('', { keyId, requestId: `${number}` })]
    const text = { text: `${number} of ${keyId}`, sources }
    hashes.push((await freezeDataset(testDeps(), DOMAIN, [text])).sha256)
  }
  return hashes
}

/** Returns artifacts that fail to delete a second object. */
function failingSecondDelete(): R2Bucket {
  let deletions = 0
  return new Proxy(env.ARTIFACTS, {
    get(bucket, name: keyof R2Bucket) {
      if (name === 'delete') deletions += 1
      if (name === 'delete' && deletions === 2) return () => Promise.reject(new Error('R2 is away'))
      return bucket[name].bind(bucket)
    },
  })
}

/** Returns the rows of the audit log about a key's deletion. */
async function auditRows(keyId: string) {
  const rows = await pendingAuditRows()
  return rows.filter(({ before }) => (before as { keyId?: string } | null)?.keyId === keyId)
}

/** Returns what the rows of the audit log say about a key's deletion. */
async function auditedNumbers(keyId: string): Promise<Record<string, unknown>[]> {
  return (await auditRows(keyId)).map(({ after }) => after as Record<string, unknown>)
}

/** Returns the numbers of frozen texts in the rows of the audit log about a key's deletion. */
async function auditedTexts(keyId: string): Promise<unknown[]> {
  return (await auditedNumbers(keyId)).map((after) => after['deleted_frozen'])
}

async function frozenTexts(): Promise<string> {
  const hashes = await listDatasetsOf(db, DOMAIN)
  return JSON.stringify(await Promise.all(hashes.map((hash) => readDataset(testDeps(), hash))))
}

async function expectDeleted(keyId: string): Promise<void> {
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await listUnbegunDeletions(db, 10, Infinity)).toEqual([])
  expect(await frozenTexts()).not.toContain(keyId)
  expect(await listStatistics(db, DOMAIN)).toEqual([])
}

beforeEach(() => ensureDomains(db, [DOMAIN], 1))

test.each([
  [
    'a deletion in all domains',
    async (keyId: string) => {
      const { pending } = await deleteSamplesOf(testDeps(), { keyId }, createCallBudget(60))
      return pending.some(({ domain }) => domain === DOMAIN)
    },
  ],
  [
    'a deletion in one domain',
    async (keyId: string) =>
      (await deleteTexts(testDeps(), DOMAIN, { keyId }, createCallBudget(60))).isUnfinished,
  ],
])('%s whose calls are used up within a dataset is finished by the cron task', async (name, remove) => {
  await freeze(name, 20)
  expect(await remove(name)).toBe(true)
  expect(await listPendingDeletions(db, 10)).toContainEqual(
    expect.objectContaining({ domain: DOMAIN, keyId: name }),
  )
  for (let run = 0; run < 5 && (await listPendingDeletions(db, 10)).length > 0; run += 1)
    await finishDeletions(meterDeps(testDeps(), createCallBudget(60)))
  await expectDeleted(name)
})

test('what was deleted before the calls were used up is in the audit log', async () => {
  const keyId = 'key_of_two'
  const hashes = await freezeTwo(keyId)
  await summarise(hashes.toSorted()[1] ?? '', 30)
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, createdAt: 1 }])
  for (let run = 0; run < 5 && (await listPendingDeletions(db, 10)).length > 0; run += 1)
    await finishDeletions(meterDeps(testDeps(), createCallBudget(80)))
  await expectDeleted(keyId)
  expect(await auditedTexts(keyId)).toEqual([1, 1])
})

test.each([
  ['all domains', (deps: ReturnType<typeof testDeps>, keyId: string) => deleteSamplesOf(deps, { keyId })],
  ['one domain', (deps: ReturnType<typeof testDeps>, keyId: string) => deleteTexts(deps, DOMAIN, { keyId })],
])('a deletion in %s that fails midway is carried out by the cron task', async (keyId, remove) => {
  await freezeTwo(keyId)
  await testDeps()
    .reservoir(DOMAIN)
    .offer([offeredSample('a text', { keyId })])
  await expect(remove(testDeps({ artifacts: failingSecondDelete() }), keyId)).rejects.toThrow('R2 is away')
  expect(await auditedNumbers(keyId)).toMatchObject([
    { domains: [{ domain: DOMAIN, deleted: 1, deleted_frozen: 1 }] },
  ])
  // The request may still be running.
  await finishDeletions(testDeps())
  expect(await frozenTexts()).toContain(keyId)
  const later = (minutes: number) => testDeps({ nowMs: () => Date.now() + minutes * MINUTE_MS })
  await finishDeletions(later(16))
  await finishDeletions(later(17))
  await expectDeleted(keyId)
  // The request may have been ended before it could record anything.
  const reason = expect.stringContaining('is counted in an earlier row') as string
  expect(await auditRows(keyId)).toContainEqual(expect.objectContaining({ after: { deleted: 0 }, reason }))
})

/** Returns the dependencies of a task that has few calls of its own, and a function by which another task takes all the others. */
function sharingDeps() {
  const [own, other, ...ended] = shareCalls(40, 39, 160)
  if (!own || !other) throw new Error('no shares')
  for (const share of ended) share.end()
  return { deps: meterDeps(testDeps(), own), takeOthers: () => other.take(other.left) }
}

test('what is deleted is in the audit log when other tasks take all calls that they can get meanwhile', async () => {
  const keyId = 'key_of_two_tasks'
  const offer = () =>
    testDeps()
      .reservoir(DOMAIN)
      .offer([offeredSample('of two tasks', { keyId })])
  await offer()
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, doneUntil: SAMPLES_LEFT, createdAt: 1 }])
  const samples = sharingDeps()
  const reservoir = (name: string) => {
    samples.takeOthers()
    return samples.deps.reservoir(name)
  }
  await finishDeletions({ ...samples.deps, reservoir })
  expect(await auditedNumbers(keyId)).toContainEqual({ deleted: 1 })
  await freeze(keyId, 1)
  const frozen = sharingDeps()
  const artifacts = new Proxy(frozen.deps.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      if (name === 'get') frozen.takeOthers()
      return bucket[name].bind(bucket)
    },
  })
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, createdAt: 1 }])
  await finishDeletions({ ...frozen.deps, artifacts })
  await expectDeleted(keyId)
  expect(await auditedNumbers(keyId)).toContainEqual(expect.objectContaining({ deleted_frozen: 1 }))
})

test.each([
  ['samples', SAMPLES_LEFT, { deleted: 0 }],
  ['frozen texts', '', { deleted_frozen: 0 }],
])(
  '%s whose deletion could not be recorded are in the server log, and the audit log says so after the next attempt',
  async (what, doneUntil, after) => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    onTestFinished(() => error.mockRestore())
    const keyId = `unaudited ${what}`
    if (doneUntil === SAMPLES_LEFT)
      await testDeps()
        .reservoir(DOMAIN)
        .offer([offeredSample('a text', { keyId })])
    else await freeze(keyId, 0)
    await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, doneUntil, createdAt: 1 }])
    const d1 = new Proxy(env.DB, {
      get(database, name: keyof D1Database) {
        if (name !== 'prepare') return database[name].bind(database)
        return (query: string) => {
          if (query.includes('audit_pending')) throw new Error('D1 is away')
          return database.prepare(query)
        }
      },
    })
    await finishDeletions(testDeps({ db: openDatabase(d1) }))
    expect(error.mock.calls[0]).toEqual([
      `The deletion of 1 text(s) of '${DOMAIN}' is missing in the audit log.`,
    ])
    await finishDeletions(testDeps())
    await expectDeleted(keyId)
    expect((await auditRows(keyId))[0]).toMatchObject({
      after,
      reason: expect.stringContaining('in the server log') as string,
    })
  },
)

test('what was deleted before a failure is in the audit log', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const keyId = 'key_of_failure'
  await freezeTwo(keyId)
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, createdAt: 1 }])
  await finishDeletions(testDeps({ artifacts: failingSecondDelete() }))
  expect(error).toHaveBeenCalledOnce()
  await finishDeletions(testDeps())
  await expectDeleted(keyId)
  expect(await auditedNumbers(keyId)).toMatchObject([
    { domains: [{ domain: DOMAIN, deleted_frozen: 1, updates: [], masks: [] }] },
    { deleted_frozen: 1 },
  ])
})

test('texts whose file is deleted count also if forgetting their dataset fails', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const keyId = 'key_unforgotten'
  await freeze(keyId, 0)
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId, createdAt: 1 }])
  const d1 = new Proxy(env.DB, {
    get(database, name: keyof D1Database) {
      if (name !== 'prepare') return database[name].bind(database)
      return (query: string) => {
        if (query.startsWith('delete from "datasets"')) throw new Error('D1 is away')
        return database.prepare(query)
      }
    },
  })
  await finishDeletions(testDeps({ db: openDatabase(d1) }))
  expect(await auditedNumbers(keyId)).toMatchObject([{ domains: [{ domain: DOMAIN, deleted_frozen: 1 }] }])
  await finishDeletions(testDeps())
  await expectDeleted(keyId)
})

test('an update that is cancelled for a deletion is in the audit log, also if giving its texts back uses up the calls', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  await newNode('waited')
  await seedMasks('waited', [1])
  const domains = [DOMAIN, ...Array.from({ length: 40 }, (_, index) => `waited-${index}`)]
  const id = await seedUpdate('waited', 2, { state: 'calibrating', domains, createdAt: 1 })
  await insertPendingDeletions(db, [{ domain: DOMAIN, keyId: 'key_waits', createdAt: 1 }])
  const metered = meterDeps(testDeps(), createCallBudget(39))
  expect(isCallsUsedUp(await finishDeletions(metered).catch((thrown: unknown) => thrown))).toBe(false)
  expect(await findUpdate(db, id)).toMatchObject({ state: 'cancelled' })
  const rows = await pendingAuditRows()
  expect(rows).toContainEqual(expect.objectContaining({ action: 'update.cancelled', target: id }))
  expect(error).not.toHaveBeenCalled()
  await finishDeletions(testDeps())
  await expectDeleted('key_waits')
})

test('deleting samples leaves enough calls for a deletion that is pending', async () => {
  await testDeps()
    .reservoir(DOMAIN)
    .offer([offeredSample('a text', { keyId: 'waits' })])
  await insertPendingDeletions(db, [
    { domain: DOMAIN, keyId: 'waits', doneUntil: SAMPLES_LEFT, createdAt: 1 },
    { domain: 'another', keyId: 'next', createdAt: 1 },
  ])
  await finishDeletions(meterDeps(testDeps(), createCallBudget(40)))
  expect(await listPendingDeletions(db, 10)).toEqual([])
  await finishDeletions(testDeps())
  await expectDeleted('waits')
})
