import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { updateState } from '@copal/shared/wire/admin.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { deleteDomain, deleteTexts } from '../../../../gateway/src/adaptation/domains/domain-deletion.ts'
import { finishDeletions } from '../../../../gateway/src/adaptation/domains/sample-deletion.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { hasEnded } from '../../../../gateway/src/adaptation/updates/update-states.ts'
import { datasetKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains, findDomain } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { promoteMask } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import {
  insertPendingDeletions,
  REQUEST_RUNNING,
} from '../../../../gateway/src/storage/db/queries/pending-deletion-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { ready } from '../../support/doubles/whole-updates.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { seedScores, seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'
import { batchRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const deleteKey = (domain: string) => admin('DELETE', `/domains/${domain}/samples?key=key_leaves`)
const cancel = (id: string) => adminJson('POST', `/updates/${id}/cancel`)

/** Samples texts of two keys, one of which leaves. */
async function sample(domain: string): Promise<void> {
  await importTexts(domain)
  const offers = Array.from({ length: 60 }, (_, index) =>
    offeredSample(`key_leaves wrote text ${index} ${'words and more '.repeat(6)}`, {
      requestId: `${domain}-${index}`,
      keyId: 'key_leaves',
    }),
  )
  await testDeps().reservoir(domain).offer(offers)
}

async function textOf(hashes: readonly string[]): Promise<string> {
  const texts = await Promise.all(hashes.map((hash) => readDataset(testDeps(), hash)))
  return JSON.stringify(texts)
}

/** Returns an update whose canary runs: its dataset has texts of the key that leaves. The domain is called like the model. */
async function inCanary(model: string) {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await sample(model)
  await setPolicy(model, { canary: { enabled: true, min_minutes: 0, min_scored_tokens: 0 } })
  const { id } = await startUpdate(model, [model], { samples: 32 })
  await node.reach(id, 'canary')
  await node.beat(ready(0, 1))
  const own = (await findUpdate(db, id))?.datasets ?? []
  expect(await textOf(own)).toContain('key_leaves')
  return { node, id, own, version: (await getUpdate(id)).mask_version ?? 0 }
}

/** Promotes the mask of a canary. */
async function promote(model: string, { node, id, version }: Awaited<ReturnType<typeof inCanary>>) {
  await seedScores(model, { maskVersion: 0, shadowVersion: version, gap: 0.2, count: 500, domain: model })
  await node.beat(ready(0, version))
  const update = await advanceUpdate(testDeps({ nowMs: () => Date.now() + 11_000 }), id)
  expect(update?.state).toBe('promoting')
  expect((await node.finish(id)).state).toBe('promoted')
}

test.each(updateState.options.filter((state) => !hasEnded(state)))(
  'texts can be deleted while an update is %s only if it reads none',
  async (state) => {
    const model = `in-${state}`
    await ensureDomains(db, [model], 1)
    const id = await seedUpdate(model, 1, { state })
    for (const path of [`/domains/${model}/samples?key=key_leaves`, `/domains/${model}`]) {
      const response = await admin('DELETE', path)
      const message = response.ok ? '' : (await errorOf(response)).message
      const reader = /update '(\S+)' is (.+) and may read/.exec(message)?.slice(1)
      const expected = state === 'canary' ? [200, undefined] : [409, [id, UPDATE_STATES[state]]]
      expect([path, response.status, reader]).toEqual([path, ...expected])
    }
    await env.DB.prepare("update updates set state = 'failed', finished_at = 1 where id = ?").bind(id).run()
  },
)

test('a canary whose texts are deleted counts the remaining ones when it is promoted', async () => {
  const canary = await inCanary('during')
  expect(await (await deleteKey('during')).json()).toMatchObject({
    deleted_frozen: expect.toSatisfy((deleted: number) => deleted > 10) as number,
  })
  const left = (await findUpdate(db, canary.id))?.datasets ?? []
  expect(left).toHaveLength(1)
  expect(left).not.toEqual(canary.own)
  expect(await getUpdate(canary.id)).toMatchObject({ state: 'canary' })
  await promote('during', canary)
  const counted = (await listCounted(db, 'during')).map(({ sha256 }) => sha256)
  expect(counted).toEqual(left)
  expect(await textOf(counted)).not.toContain('key_leaves')
  for (const hash of canary.own) expect(await env.ARTIFACTS.head(datasetKey(hash))).toBeNull()
})

test('a driver that read the update before the deletion counts what is left, and one that ends it leaves nothing', async () => {
  const { id, version } = await inCanary('stale')
  const stale = await findUpdate(db, id)
  if (!stale) throw new Error('the update is missing')
  expect((await deleteKey('stale')).status).toBe(200)
  const left = (await findUpdate(db, id))?.datasets ?? []
  // It has another revision: a step that still names the old dataset changes nothing.
  expect((await findUpdate(db, id))?.revision).toBe(stale.revision + 1)
  await env.DB.prepare("update updates set state = 'promoting' where id = ?").bind(id).run()
  await promoteMask(db, stale, version, Date.now())
  expect((await batchRowsOf(id)).map(({ datasetSha256 }) => datasetSha256)).toEqual(left)
  await adminJson('POST', '/rollback', { model: 'stale', version: 0 })

  const other = await inCanary('ends')
  expect((await deleteKey('ends')).status).toBe(200)
  const remaining = (await findUpdate(db, other.id))?.datasets ?? []
  await cancel(other.id)
  expect(await textOf(remaining)).toBe('[null]')
})

test('a domain is deleted during a canary, whose texts then count in nothing', async () => {
  const canary = await inCanary('gone')
  expect((await admin('DELETE', '/domains/gone')).status).toBe(200)
  expect(await findDomain(db, 'gone')).toBeUndefined()
  await promote('gone', canary)
  expect(await batchRowsOf(canary.id)).toEqual([])
  expect(await textOf(canary.own)).toBe('[null]')
})

test('a mask that the gate rejected can be forced after texts of its update are deleted', async () => {
  const node = new SimulatedNode('forced-1', 'forced', ({ mask }) => (mask === null ? 2 : 4))
  await node.beat()
  await sample('forced')
  const { id } = await startUpdate('forced', ['forced'], { samples: 32 })
  expect(await node.finish(id)).toMatchObject({ state: 'failed', error: { code: 'gate_failed' } })
  expect((await deleteKey('forced')).status).toBe(200)
  await adminJson('POST', `/updates/${id}/force`, { reason: 'a reason of a test' })
  expect((await node.finish(id)).state).toBe('promoted')
  const counted = (await listCounted(db, 'forced')).map(({ sha256 }) => sha256)
  expect(counted).toHaveLength(1)
  expect(await textOf(counted)).not.toContain('key_leaves')
})

/** Returns dependencies with which an update begins at the first call of a reservoir, after the check of a deletion, and its id. */
async function racingDeps(model: string) {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await sample(model)
  const deps = testDeps()
  let id = ''
  const reservoir = (name: string) =>
    new Proxy(deps.reservoir(name), {
      get(object, member) {
        const value: unknown = Reflect.get(object, member, object)
        if (typeof value !== 'function') return value
        return async (...parameters: unknown[]): Promise<unknown> => {
          if (id === '') {
            ;({ id } = await startUpdate(model, [model], { samples: 32 }))
            await node.reach(id, 'calibrating')
          }
          return Reflect.apply(value, object, parameters)
        }
      },
    })
  return { deps: { ...deps, reservoir }, updateId: () => id }
}

test('an update that froze texts between check and deletion makes it fail, and repeating it deletes them', async () => {
  const { deps, updateId } = await racingDeps('raced-texts')
  const remove = (by: typeof deps) => deleteTexts(by, 'raced-texts', { keyId: 'key_leaves' })
  const error: unknown = await remove(deps).catch((reason: unknown) => reason)
  expect(error).toMatchObject({
    code: 'conflict',
    message: expect.stringContaining(`Update '${updateId()}' began during the deletion`) as string,
  })
  await cancel(updateId())
  await remove(testDeps())
  expect(await textOf(await listDatasetsOf(db, 'raced-texts'))).not.toContain('key_leaves')
})

test('a domain of which an update froze texts between check and deletion is deleted when that has ended', async () => {
  const { deps, updateId } = await racingDeps('raced-domain')
  expect(await deleteDomain(deps, 'raced-domain')).toBe(false)
  await finishDeletions(testDeps())
  expect(await findDomain(db, 'raced-domain')).toBeDefined()
  expect(await getUpdate(updateId())).toMatchObject({ state: 'calibrating' })
  await cancel(updateId())
  await finishDeletions(testDeps())
  expect(await findDomain(db, 'raced-domain')).toBeUndefined()
  expect(await listDatasetsOf(db, 'raced-domain')).toEqual([])
})

test('an update for which the deletion of a domain has waited for a week is cancelled', async () => {
  const { deps, updateId } = await racingDeps('slow-domain')
  expect(await deleteDomain(deps, 'slow-domain')).toBe(false)
  const after = (days: number) => testDeps({ nowMs: () => Date.now() + days * 24 * 60 * 60 * 1000 })
  await finishDeletions(after(6.9))
  expect(await getUpdate(updateId())).toMatchObject({ state: 'calibrating' })
  await finishDeletions(after(7.1))
  expect(await getUpdate(updateId())).toMatchObject({ state: 'cancelled' })
  await finishDeletions(after(7.2))
  expect(await findDomain(db, 'slow-domain')).toBeUndefined()
})

test('the deletion of a domain that fails midway is finished by the cron task, and until then no text is stored for it', async () => {
  await importTexts('half')
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(bucket, name: keyof R2Bucket) {
      if (name === 'delete') return () => Promise.reject(new Error('R2 is away'))
      return bucket[name].bind(bucket)
    },
  })
  await freezeDataset(testDeps(), 'half', [{ text: 'a frozen text', sources: [] }])
  await expect(deleteDomain(testDeps({ artifacts }), 'half')).rejects.toThrow('R2 is away')
  const response = await admin('POST', '/domains/half/texts', { texts: ['a new text'] })
  expect([response.status, (await errorOf(response)).message]).toEqual([
    409,
    "The domain 'half' is being deleted. Try again when 'GET /admin/domains' no longer lists it.",
  ])
  await finishDeletions(testDeps())
  expect(await findDomain(db, 'half')).toBeUndefined()
  expect((await admin('POST', '/domains/half/texts', { texts: ['a new text'] })).status).toBe(201)
})

test('a request that was ended while it deleted a domain is taken for failed a quarter of an hour later', async () => {
  await importTexts('ended')
  await insertPendingDeletions(db, [
    { domain: 'ended', doneUntil: REQUEST_RUNNING, createdAt: Date.now() - 14 * 60_000 },
  ])
  await finishDeletions(testDeps())
  expect(await findDomain(db, 'ended')).toBeDefined()
  await finishDeletions(testDeps({ nowMs: () => Date.now() + 2 * 60_000 }))
  expect(await findDomain(db, 'ended')).toBeUndefined()
  expect((await testDeps().reservoir('ended').stats()).samples).toBe(0)
})
