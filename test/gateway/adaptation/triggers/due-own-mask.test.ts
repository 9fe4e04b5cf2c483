import { env } from 'cloudflare:workers'
import { and, eq } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { createOwnMask, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { findPolicy } from '../../../../gateway/src/adaptation/policy/find-policy.ts'
import { refreshCounts } from '../../../../gateway/src/adaptation/sampling/refresh-counts.ts'
import { findDueOwnMask } from '../../../../gateway/src/adaptation/triggers/due-own-mask.ts'
import { runTriggers } from '../../../../gateway/src/adaptation/triggers/run-triggers.ts'
import { createOwnMaskUpdate } from '../../../../gateway/src/adaptation/updates/own-mask-request.ts'
import { cancelUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertHoldout } from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { evaluations } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { batches } from '../../../../gateway/src/storage/db/schema/updates.ts'
import {
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { scoresByOrder } from '../../support/doubles/scores-by-order.ts'
import { decisionRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const MINUTE = 60_000
const updatesOf = async (model: string) =>
  (await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')).data.filter((each) => each.model === model)

/** Runs the task as if `minutes` had passed. */
const tick = (minutes = 0) => runTriggers(testDeps({ nowMs: () => Date.now() + minutes * MINUTE }))

/** Lets no update start for new text, and no watch keep one from starting. */
const setPolicy = (model: string, triggers = {}, discovery = {}) =>
  adminJson('PUT', '/policy', {
    model,
    watch: { soak_minutes: 0 },
    triggers: { cooldown_minutes: 0, max_per_day: 100, new_segments: 100_000, max_gap: null, ...triggers },
    discovery: { own_masks: true, ...discovery },
  })

test('masks of single domains are sought by themselves, most cost first, once beside each shared mask', async () => {
  const scores = {
    'seek-cheap': [10, 10.2],
    'seek-costly': [10, 14, 11],
    'seek-middle': [10, 12, 13, 12],
    // It has too little held-out text to be judged alone.
    'seek-small': [10, 14.5, 11],
  }
  const node = new SimulatedNode('seek-1', 'seek', scoresByOrder(scores))
  await node.beat()
  await setPolicy('seek', {}, { own_masks: false })
  const domains = Object.keys(scores)
  for (const domain of domains) await importTexts(domain, domain === 'seek-small' ? 20 : 80)
  await node.finish((await startUpdate('seek', domains)).id)
  await tick(1)
  expect(await updatesOf('seek')).toHaveLength(1)

  await setPolicy('seek', { dry_run: true })
  await tick(1)
  await tick(2)
  const [dryRun, ...others] = (await decisionRowsOf('seek')).filter(({ kind }) => kind === 'trigger')
  expect(dryRun).toMatchObject({
    verdict: 'dry_run',
    reason: expect.stringContaining("Would have started by own_mask: 'seek-costly'") as string,
  })
  expect(others).toEqual([])

  await setPolicy('seek')
  await tick(3)
  const [first] = await updatesOf('seek')
  expect(first).toMatchObject({ own_domain: 'seek-costly', trigger: 'own_mask' })
  expect(first?.trigger_reason).toContain('1.40 × that of the dense model')
  expect((await node.finish(first?.id ?? '')).state).toBe('promoted')
  await tick(4)
  const [second] = await updatesOf('seek')
  expect(second).toMatchObject({ own_domain: 'seek-middle' })
  expect((await node.finish(second?.id ?? '')).error?.code).toBe('gate_failed')
  // The last one cannot gain 3 %, and the others were tried.
  await tick(5)
  expect(await updatesOf('seek')).toHaveLength(3)
  expect((await findModel(db, 'seek'))?.domainVersions).toEqual(new Map([['seek-costly', 2]]))
})

test('a mask of a single domain is not sought again when its update was cancelled before it had collected', async () => {
  const node = new SimulatedNode('stop-1', 'stop', scoresByOrder({ 'stop-a': [10, 14, 11] }))
  await node.beat()
  await setPolicy('stop', {}, { own_masks: false })
  await importTexts('stop-a', 80)
  await node.finish((await startUpdate('stop', ['stop-a'])).id)
  await setPolicy('stop')
  const { id } = await createOwnMaskUpdate(testDeps(), 'stop-a', createOwnMask.parse({ model: 'stop' }))
  await cancelUpdate(testDeps(), id)
  await tick(1)
  expect((await updatesOf('stop')).map((update) => update.own_domain)).toEqual(['stop-a', null])
})

test('of many costly domains only those are asked that have enough held-out text by the counts in D1', async () => {
  const node = new SimulatedNode('crowd-1', 'crowd', scoresByOrder({ 'crowd-a': [10, 14, 11] }))
  await node.beat()
  await setPolicy('crowd', {}, { own_masks: false })
  await importTexts('crowd-a', 80)
  await node.finish((await startUpdate('crowd', ['crowd-a'])).id)
  await setPolicy('crowd')
  const names = Array.from({ length: 80 }, (_, index) => `crowd-small-${index}`)
  await ensureDomains(db, names, 0)
  for (const domain of names) {
    const hash = await sha256(new Uint8Array(new TextEncoder().encode(domain)))
    const holdout = { domain, version: 1, sha256: hash, samples: 1, characters: 800, createdAt: 0 }
    await insertHoldout(db, holdout)
    const evaluation = { model: 'crowd', domain, holdoutSha256: hash, tokens: 200, createdAt: 0 }
    await db.insert(evaluations).values([
      { ...evaluation, version: 0, nllMean: 1 },
      { ...evaluation, version: 1, nllMean: 9 },
    ])
    const batch = { model: 'crowd', datasetSha256: hash, updateId: 'upd', domain, createdAt: 0 }
    await db.insert(batches).values({ ...batch, state: 'counted', tokens: 200, marked: true })
  }
  await refreshCounts(testDeps())
  const deps = testDeps()
  const asked: string[] = []
  const reservoir = (name: string) => {
    asked.push(name)
    return deps.reservoir(name)
  }
  const model = await findModel(db, 'crowd')
  if (!model) throw new Error('the model is unknown')
  const policy = await findPolicy(deps, 'crowd')
  expect(await findDueOwnMask({ db, reservoir }, model, policy)).toMatchObject({ domain: 'crowd-a' })
  expect(asked).toEqual(['crowd-a'])

  // Losses of other numerics say nothing about what the mask costs.
  await db
    .update(evaluations)
    .set({ numerics: 'bf16, head int8' })
    .where(and(eq(evaluations.model, 'crowd'), eq(evaluations.version, 0)))
  expect(await findDueOwnMask({ db, reservoir }, model, policy)).toBeUndefined()
})
