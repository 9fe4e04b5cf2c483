import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { createCallBudget } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import worker from '../../../../gateway/src/index.ts'
import {
  deleteSamplesOf,
  finishDeletions,
} from '../../../../gateway/src/adaptation/domains/sample-deletion.ts'
import { freezeDataset, readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains, listDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  insertPendingDeletions,
  listPendingDeletions,
} from '../../../../gateway/src/storage/db/queries/pending-deletion-queries.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)

/** An update of a domain, called like the model, that calibrates on texts of a key that leaves. */
async function calibrating(model: string, keyId: string) {
  const node = await newNode(model)
  // No node describes texts here, which the update would wait for.
  await setPolicy(model, { influence: { outlier_deviations: null } })
  await importTexts(model)
  await testDeps()
    .reservoir(model)
    .offer(
      Array.from({ length: 60 }, (_, index) =>
        offeredSample(`${keyId} wrote text ${index} ${'words and more '.repeat(6)}`, {
          requestId: `${model}-${index}`,
          keyId,
        }),
      ),
    )
  const { id } = await startUpdate(model, [model], { samples: 32 })
  await node.reach(id, 'calibrating')
  await node.beat()
  return { node, id }
}

async function frozenTexts(domain: string): Promise<string> {
  const hashes = await listDatasetsOf(db, domain)
  return JSON.stringify(await Promise.all(hashes.map((hash) => readDataset(testDeps(), hash))))
}

async function tick(): Promise<void> {
  const ctx = createExecutionContext()
  await worker.scheduled(createScheduledController({ cron: '* * * * *' }), env, ctx)
  await waitOnExecutionContext(ctx)
}

test('a deletion that an update holds up is answered with 202, and finished when the update has ended', async () => {
  const { node, id } = await calibrating('held', 'key_held')
  const response = await admin('DELETE', '/samples?key=key_held')
  expect(response.status).toBe(202)
  const deleted = await response.json<DeletedSamples>()
  expect(deleted.pending).toEqual([{ domain: 'held', update: id }])
  expect(deleted.domains).toMatchObject([{ domain: 'held', deleted_frozen: 0, updates: [id] }])
  await finishDeletions(testDeps())
  expect(await frozenTexts('held')).toContain('key_held')
  expect(await listPendingDeletions(db, 10)).toHaveLength(1)

  expect((await node.finish(id)).state).toBe('promoted')
  await tick()
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('held')).not.toContain('key_held')
  // What is left counts, and the deletion is in the audit log with what was made of the texts.
  expect(await listCounted(db, 'held')).toHaveLength(1)
  const { data } = await adminJson<{ data: unknown[] }>('GET', '/audit?limit=500')
  expect(data).toContainEqual(
    expect.objectContaining({
      action: 'samples.deletion_finished',
      target: 'held',
      before: expect.objectContaining({ keyId: 'key_held' }) as unknown,
      after: expect.objectContaining({ updates: [id], masks: ['held@mask-1'] }) as unknown,
    }),
  )
})

test('a deletion whose update was cancelled is finished too, and one of a deleted domain is forgotten', async () => {
  for (const model of ['stopped', 'dropped']) {
    const { id } = await calibrating(model, `key_${model}`)
    expect((await admin('DELETE', `/samples?key=key_${model}`)).status).toBe(202)
    await adminJson('POST', `/updates/${id}/cancel`)
  }
  await adminJson('DELETE', '/domains/dropped')
  expect(await listPendingDeletions(db, 10)).toMatchObject([{ domain: 'stopped', keyId: 'key_stopped' }])
  await finishDeletions(testDeps())
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('stopped')).not.toContain('key_stopped')
})

test('an update that a deletion has waited for for a week is cancelled', async () => {
  const { id } = await calibrating('stuck', 'key_stuck')
  expect((await admin('DELETE', '/samples?key=key_stuck')).status).toBe(202)
  const after = (days: number) => testDeps({ nowMs: () => Date.now() + days * 24 * 60 * 60 * 1000 })
  await finishDeletions(after(6.9))
  expect(await getUpdate(id)).toMatchObject({ state: 'calibrating' })
  await finishDeletions(after(7))
  expect(await getUpdate(id)).toMatchObject({ state: 'cancelled' })
  await finishDeletions(after(7.1))
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('stuck')).not.toContain('key_stuck')
  const { data } = await adminJson<{ data: unknown[] }>('GET', '/audit?limit=500')
  expect(data).toContainEqual(
    expect.objectContaining({ actor: 'copal', action: 'update.cancelled', target: id }),
  )
})

test('an update that began later is cancelled only when the deletion has waited for it for a week too, or for two in all', async () => {
  await ensureDomains(db, ['chain'], 1)
  const DAY_MS = 24 * 60 * 60 * 1000
  const startMs = Date.now()
  const source = { requestId: '', keyId: 'key_chain', tenant: '', conversation: '', consentVersion: 0 }
  await freezeDataset(testDeps(), 'chain', [{ text: 'of key_chain', sources: [source] }])
  const running = (version: number, day: number) =>
    seedUpdate(`chain-${version}`, version, {
      state: 'calibrating',
      domains: ['chain'],
      createdAt: startMs + day * DAY_MS,
    })
  const finish = (day: number) => finishDeletions(testDeps({ nowMs: () => startMs + day * DAY_MS }))
  const stateOf = async (id: string) => (await getUpdate(id)).state
  const late = await running(2, 6.5)
  const stuck = await running(1, 0)
  await deleteSamplesOf(testDeps({ nowMs: () => startMs }), { keyId: 'key_chain' })
  await finish(7)
  expect([await stateOf(stuck), await stateOf(late)]).toEqual(['cancelled', 'calibrating'])
  await finish(7.1)
  expect(await stateOf(late)).toBe('calibrating')
  await finish(13.5)
  expect(await stateOf(late)).toBe('cancelled')
  const last = await running(3, 13.6)
  await finish(13.9)
  expect(await stateOf(last)).toBe('calibrating')
  await finish(14)
  expect(await stateOf(last)).toBe('cancelled')
  await finish(14.1)
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('chain')).not.toContain('key_chain')
})

/** Returns dependencies that count the calls of R2, and the count. */
function countingDeps() {
  const deps = testDeps()
  const count = { calls: 0 }
  const artifacts = new Proxy(deps.artifacts, {
    get(bucket, name: keyof R2Bucket) {
      count.calls += 1
      return bucket[name].bind(bucket)
    },
  })
  return { count, deps: { ...deps, artifacts } }
}

test('a deletion looks through no more datasets than a call can, and the cron task goes on where it stopped', async () => {
  await ensureDomains(db, ['much'], 1)
  const sourceOf = (keyId: string) => offeredSample('', { keyId, requestId: `request of ${keyId}` })
  for (let number = 0; number < 40; number += 1) {
    const keys = number % 10 === 0 ? ['key_much', 'key_stays'] : ['key_stays']
    const texts = keys.map((keyId) => ({ text: `${keyId} ${number}`, sources: [sourceOf(keyId)] }))
    await freezeDataset(testDeps(), 'much', texts)
  }
  const { count, deps } = countingDeps()
  const run = async (go: () => Promise<unknown>) => {
    count.calls = 0
    await go()
    expect(count.calls).toBeLessThan(60)
  }
  await run(async () => {
    const { pending } = await deleteSamplesOf(deps, { keyId: 'key_much' }, createCallBudget(60))
    expect(pending).toContainEqual({ domain: 'much', update: null })
  })
  expect(await frozenTexts('much')).toContain('key_much')
  let runs = 0
  for (; (await listPendingDeletions(db, 10)).length > 0; runs += 1)
    await run(() => finishDeletions(meterDeps(deps, createCallBudget(60))))
  expect(runs).toBeGreaterThan(1)
  expect(runs).toBeLessThan(10)
  expect(await frozenTexts('much')).not.toContain('key_much')
  expect(await listDatasetsOf(db, 'much')).toHaveLength(40)
  const { data } = await adminJson<{ data: { action: string; target: string }[] }>('GET', '/audit?limit=500')
  const actions = data.flatMap(({ action, target }) => (target === 'much' ? [action] : []))
  expect(new Set(actions)).toEqual(new Set(['samples.deletion_continued', 'samples.deletion_finished']))
})

test('domains beyond what one call can look at are left to the cron task', async () => {
  const names = ['a', 'b', 'c', 'd'].map((letter) => `many-${letter}`)
  await ensureDomains(db, names, 1)
  const offer = offeredSample('a text', { keyId: 'key_many' })
  for (const name of names) await testDeps().reservoir(name).offer([offer])
  // Those of the deletion itself, of all reservoirs, and of the frozen texts of one domain.
  const calls = 3 + (await listDomains(db)).length + 11
  const { domains, pending } = await deleteSamplesOf(
    testDeps(),
    { keyId: 'key_many' },
    createCallBudget(calls),
  )
  expect(domains.filter(({ deleted }) => deleted === 1).map(({ domain }) => domain)).toEqual(names)
  expect(pending.map(({ update }) => update)).toEqual(pending.map(() => null))
  expect(pending.map(({ domain }) => domain)).toContain('many-d')
  while ((await listPendingDeletions(db, 10)).length > 0) await finishDeletions(testDeps())
})

test('samples of domains beyond what one call can reach are deleted by the cron task, also those frozen meanwhile', async () => {
  await ensureDomains(db, ['beyond-1', 'beyond-2', 'beyond-3'], 1)
  const offer = offeredSample('a text of one who leaves', { keyId: 'key_beyond', side: 'pool' })
  for (const name of ['beyond-1', 'beyond-2', 'beyond-3']) await testDeps().reservoir(name).offer([offer])
  const called: string[] = []
  const deps = {
    ...testDeps(),
    reservoir: (domain: string) => {
      called.push(domain)
      return testDeps().reservoir(domain)
    },
  }
  const { pending } = await deleteSamplesOf(deps, { keyId: 'key_beyond' }, createCallBudget(5))
  expect(called).toHaveLength(2)
  expect(pending).toContainEqual({ domain: 'beyond-3', update: null })
  expect(await samplesOf('beyond-3')).toBe(1)

  const id = await seedUpdate('other-model', 2, { state: 'calibrating', domains: ['beyond-3'] })
  const drawn = await testDeps()
    .reservoir('beyond-3')
    .take({ model: 'other-model', updateId: id, maxBytes: 1e6 })
  for (let run = 0; run < 5; run += 1) await finishDeletions(meterDeps(testDeps(), createCallBudget(60)))
  expect(await samplesOf('beyond-3')).toBe(0)
  const left = await listPendingDeletions(db, 10)
  expect(left.map(({ domain }) => domain)).toContain('beyond-3')
  await freezeDataset(testDeps(), 'beyond-3', drawn)
  await env.DB.prepare("update updates set state = 'promoted', finished_at = 1 where id = ?").bind(id).run()
  await finishDeletions(testDeps())
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('beyond-3')).not.toContain('key_beyond')
})

async function samplesOf(domain: string): Promise<number> {
  return (await testDeps().reservoir(domain).stats()).samples
}

test('a deletion in a domain waits for an update of another one, which may hold out its texts at this moment', async () => {
  await ensureDomains(db, ['held-out'], 1)
  const id = await seedUpdate('other-model', 1, { state: 'evaluating', domains: ['another'] })
  const offer = offeredSample('a text that is held out', { keyId: 'key_out', side: 'holdout' })
  await testDeps().reservoir('held-out').offer([offer])
  const drawn = await testDeps().reservoir('held-out').holdout(1e6)
  const { pending } = await deleteSamplesOf(testDeps(), { keyId: 'key_out' })
  expect(pending).toEqual([{ domain: 'held-out', update: id }])
  await finishDeletions(testDeps())
  // The update freezes what it had read before.
  await freezeDataset(testDeps(), 'held-out', drawn)
  await finishDeletions(testDeps())
  expect(await frozenTexts('held-out')).toContain('key_out')
  await env.DB.prepare("update updates set state = 'promoted', finished_at = 1 where id = ?").bind(id).run()
  await finishDeletions(testDeps())
  expect(await listPendingDeletions(db, 10)).toEqual([])
  expect(await frozenTexts('held-out')).not.toContain('key_out')
})

test('deletions that wait for an update hold up no others', async () => {
  const id = await seedUpdate('other-model', 3, { state: 'calibrating', domains: ['held-up'] })
  const requests = Array.from({ length: 20 }, (_, number) => `request ${number}`)
  const waiting = requests.map((requestId) => ({ domain: 'held-up', requestId, createdAt: Date.now() }))
  // It has begun to look through datasets, so the update holds none of its texts.
  const free = { domain: 'free', requestId: 'a', doneUntil: '0', createdAt: Date.now() }
  await insertPendingDeletions(db, [...waiting, free])
  const domains = async () => (await listPendingDeletions(db, 50)).map(({ domain }) => domain)
  for (let run = 0; run < 10 && (await domains()).includes('free'); run += 1)
    await finishDeletions(testDeps())
  expect(await domains()).toEqual(requests.map(() => 'held-up'))
  await env.DB.prepare("update updates set state = 'cancelled', finished_at = 1 where id = ?").bind(id).run()
})
