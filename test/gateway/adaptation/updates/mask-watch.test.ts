import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController } from 'cloudflare:test'
import { describe, expect, test } from 'vitest'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import worker from '../../../../gateway/src/index.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import {
  insertDecision,
  listDecisionsOf,
} from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { insertDataset } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { findMask, promoteMask } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { watchMasks } from '../../../../gateway/src/adaptation/updates/mask-watch.ts'
import { admin, adminJson, SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { ready } from '../../support/doubles/whole-updates.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import {
  activate,
  seedMasks,
  seedReceipts,
  seedScores,
  seedUpdate,
  setPolicy,
} from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
const MINUTE_MS = 60_000

const holding = (active: number, ...versions: number[]): Partial<Heartbeat> => ({
  activeVersion: active,
  ...ready(...versions),
})

/** A model whose update promotes m2 beside m1, and a node that serves it. */
async function promoted(
  model: string,
  policy: PolicyOverrides = {},
  prepare: (update: string) => Promise<unknown> = async () => undefined,
) {
  const goOn = stopClock()
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await seedMasks(model, [1, 2])
  await setPolicy(model, policy)
  // Masks before the watched one must have been active.
  await env.DB.prepare('update masks set promoted_at = 1 where model = ? and version = 1').bind(model).run()
  const id = await seedUpdate(model, 2, { state: 'promoting' })
  await prepare(id)
  await node.beat(holding(1, 1, 2))
  await node.beat(holding(2, 1, 2))
  return {
    id,
    node,
    goOn,
    modelRow: () => findModel(db, model),
    decisions: () => listDecisionsOf(db, id),
    state: async () => (await findUpdate(db, id))?.state,
    score: (gap: number, count: number, domain = 'code') =>
      // The shadow is the mask before: a gap of the new mask is the opposite.
      seedScores(model, { maskVersion: 2, shadowVersion: 1, gap: -gap, count, domain }),
    after: (ms: number) => watchMasks(testDeps({ nowMs: () => Date.now() + ms }), model),
  }
}

describe('the watch of a promoted mask', () => {
  test('begins with the promotion, with the mask before as a shadow', async () => {
    const { id, node, modelRow, decisions, state } = await promoted('begins', {
      watch: { soak_minutes: 30 },
      canary: { shadow_share: 0.3 },
    })
    expect(await state()).toBe('promoted')
    const model = await modelRow()
    expect(model).toMatchObject({
      activeVersion: 2,
      previousVersion: 1,
      watch: { version: 2, beside: 1, updateId: id },
      shadow: { version: 1, beside: 2, share: 0.3, updateId: id },
    })
    expect((model?.watch?.untilMs ?? 0) - (model?.watch?.sinceMs ?? 0)).toBe(30 * MINUTE_MS)
    expect((await node.beat(holding(2, 1, 2))).desired).toMatchObject({
      active: { version: 2 },
      previous: { version: 1 },
    })
    expect(await decisions()).toMatchObject([
      { kind: 'promote', verdict: 'done', actor: 'copal', reason: 'Active; 1 of 1 live nodes serve it.' },
    ])
    const { models } = await adminJson<StatusReport>('GET', '/status')
    expect(models.find((entry) => entry.id === 'begins')?.watch).toMatchObject({
      mask_version: 2,
      beside_version: 1,
      update_id: id,
    })
  })

  test('rolls back a mask that does harm to one domain, and heartbeats carry the mask before', async () => {
    const { id, node, score, modelRow, decisions, state, after } = await promoted('harmful')
    await score(0, 300)
    await score(0.3, 200, 'legal')
    await after(11_000)
    expect(await modelRow()).toMatchObject({ activeVersion: 1, previousVersion: 2 })
    expect(await state()).toBe('rolled_back')
    const [, decision, ...others] = await decisions()
    expect(others).toEqual([])
    expect(decision).toMatchObject({
      kind: 'watch',
      verdict: 'failed',
      maskVersion: 2,
      updateId: id,
      actor: 'copal',
    })
    expect(decision?.reason).toMatch(/^Rolled back: .*domain 'legal'.*above that of m1/)
    expect((await node.beat(holding(2, 1, 2))).desired).toMatchObject({ active: { version: 1 } })
    // The previous mask is the harmful one: an operator who rolls back once more must name it.
    const refused = await admin('POST', '/rollback', { model: 'harmful' })
    expect([refused.status, (await errorOf(refused)).code]).toEqual([409, 'conflict'])
    // The watch ends with the next call, and nothing is rolled back again.
    await after(30_000)
    expect(await modelRow()).toMatchObject({ activeVersion: 1, watch: null, shadow: null })
    expect(await decisions()).toHaveLength(2)
  })

  test.each([
    ['with output that is not finite', 'invalid_output'],
    ['with an error of unknown cause', 'internal_error'],
    ['of an older node, whose receipts name no code,', undefined],
  ] as const)('compares failures %s with those of the mask before its promotion', async (_, errorCode) => {
    const model = `failures-${errorCode ?? 'unnamed'}`
    const { decisions, after, modelRow } = await promoted(model, {}, async () => {
      await seedReceipts(model, { maskVersion: 1, count: 400, atMs: Date.now() - 5 * MINUTE_MS })
      // Too long ago to count.
      await seedReceipts(model, {
        maskVersion: 1,
        count: 400,
        failEvery: 2,
        atMs: Date.now() - 300 * MINUTE_MS,
      })
    })
    const failing = { maskVersion: 2, count: 200, failEvery: 3, errorCode }
    await seedReceipts(model, { ...failing, atMs: Date.now() + 1_000 })
    await after(11_000)
    expect((await decisions()).at(-1)?.reason).toMatch(/of its requests failed, and/)
    expect(await modelRow()).toMatchObject({ activeVersion: 1 })
  })

  test.each([
    [
      'are not judged, because a host that is busier since is no fault of the mask',
      'slow',
      [{ count: 400, firstTokenMs: 900 }],
    ],
    [
      'whose node crashed or whose connection broke do not count, because no mask does that',
      'lost',
      [
        { count: 60 },
        { count: 60, failEvery: 1, failure: 'superseded' },
        { count: 60, failEvery: 1, origin: 'estimate' },
      ],
    ],
    [
      'that a node ended, because it was stopped or had no time or memory for them, do not count',
      'ended',
      [
        { count: 60 },
        { count: 60, failEvery: 1, errorCode: 'node_failed' },
        { count: 60, failEvery: 1, errorCode: 'deadline_exceeded' },
        { count: 60, failEvery: 1, errorCode: 'overloaded' },
      ],
    ],
  ] as const)('requests %s', async (_, model, since) => {
    const { decisions, after, modelRow } = await promoted(model, { watch: { soak_minutes: 5 } }, () =>
      seedReceipts(model, {
        maskVersion: 1,
        count: 400,
        firstTokenMs: 150,
        atMs: Date.now() - MINUTE_MS,
      }),
    )
    for (const receipts of since)
      await seedReceipts(model, { maskVersion: 2, firstTokenMs: 150, atMs: Date.now() + 1_000, ...receipts })
    await after(11_000)
    await after(6 * MINUTE_MS)
    expect((await decisions()).at(-1)).toMatchObject({ kind: 'watch', verdict: 'done' })
    expect(await modelRow()).toMatchObject({ activeVersion: 2, watch: null })
  })

  test('ends after its time without harm: the decision says so, and its shadow ends', async () => {
    const { score, modelRow, decisions, state, after } = await promoted('soaked', {
      watch: { soak_minutes: 5 },
    })
    await score(0.01, 200)
    await after(4 * MINUTE_MS)
    expect(await modelRow()).toMatchObject({ watch: { version: 2, evidence: { requests: 200 } } })
    await after(6 * MINUTE_MS)
    expect(await modelRow()).toMatchObject({ activeVersion: 2, watch: null, shadow: null })
    expect(await state()).toBe('promoted')
    expect((await decisions()).at(-1)).toMatchObject({
      kind: 'watch',
      verdict: 'done',
      reason: 'No harm in 5 minutes: 200 requests with 8,000 tokens were scored.',
    })
  })

  test('is judged by cron too, while no node sends heartbeats', async () => {
    const { modelRow, decisions, goOn } = await promoted('cron', { watch: { soak_minutes: 1 } })
    goOn(MINUTE_MS)
    await worker.scheduled?.(createScheduledController(), env, createExecutionContext())
    expect(await modelRow()).toMatchObject({ watch: null, shadow: null })
    expect((await decisions()).at(-1)?.reason).toMatch(/^No harm in 1 minute: /)
  })

  test('ends when another mask becomes active, and neither rolls that one back nor decides', async () => {
    const { score, modelRow, decisions, after } = await promoted('moved-on')
    await score(0.3, 400)
    await activate('moved-on', 0)
    await after(11_000)
    expect(await modelRow()).toMatchObject({ activeVersion: 0, watch: null, shadow: null })
    expect((await decisions()).map(({ kind }) => kind)).toEqual(['promote'])
  })

  test('decides once, however many callers judge at the same time', async () => {
    const { score, after, decisions, modelRow } = await promoted('together')
    await score(0.3, 400)
    await Promise.all(Array.from({ length: 5 }, () => after(11_000)))
    expect((await decisions()).map(({ kind }) => kind)).toEqual(['promote', 'watch'])
    expect(await modelRow()).toMatchObject({ activeVersion: 1 })
  })

  test('rejects a shadow of an operator until it ends, and allows a canary', async () => {
    await promoted('taken')
    for (const call of [
      () => admin('PUT', '/shadow', { model: 'taken', mask_version: 1, share: 0.5 }),
      () => admin('DELETE', '/shadow?model=taken'),
    ]) {
      const response = await call()
      expect(response.status).toBe(409)
      expect((await errorOf(response)).message).toMatch(
        /m2 of 'taken' is watched with m1 as its shadow\. Wait until 20/,
      )
    }
    expect((await admin('PUT', '/canary', { model: 'taken', mask_version: 1, share: 0.5 })).status).toBe(200)
  })

  test('delays the canary of the next update, which then begins by itself', async () => {
    const { node, modelRow, after } = await promoted('next', { watch: { soak_minutes: 5 } })
    await seedMasks('next', [3], { active: null })
    const id = await seedUpdate('next', 3)
    await node.beat(holding(2, 1, 2))
    expect(await modelRow()).toMatchObject({ canary: null, shadow: { version: 1 } })
    await after(6 * MINUTE_MS)
    await node.beat(holding(2, 1, 2))
    expect(await modelRow()).toMatchObject({
      watch: null,
      canary: { version: 3, updateId: id },
      shadow: { version: 3 },
    })
  })
})

describe('no watch', () => {
  test('begins for the first mask, which follows the dense weights', async () => {
    const model = 'first'
    const node = new SimulatedNode(`${model}-1`, model)
    await node.beat()
    await seedMasks(model, [1], { active: null })
    const id = await seedUpdate(model, 1, { state: 'promoting' })
    await node.beat()
    await node.beat(holding(1, 0, 1))
    expect((await findUpdate(db, id))?.state).toBe('promoted')
    expect(await findModel(db, model)).toMatchObject({ activeVersion: 1, watch: null, shadow: null })
  })

  test('begins if the policy has no soak time', async () => {
    const { modelRow, state } = await promoted('unsoaked', { watch: { soak_minutes: 0 } })
    expect(await state()).toBe('promoted')
    expect(await modelRow()).toMatchObject({ activeVersion: 2, watch: null, shadow: null })
  })

  test('begins for a mask that an operator forced, whatever is active', async () => {
    const { modelRow, state } = await promoted('forced', {}, async (updateId) => {
      await insertDecision(db, {
        model: 'forced',
        updateId,
        maskVersion: 2,
        kind: 'force',
        verdict: 'done',
        reason: 'we need it now',
        actor: 'operator',
        createdAt: 1,
      })
      await activate('forced', 0)
    })
    expect(await state()).toBe('promoted')
    expect(await modelRow()).toMatchObject({ activeVersion: 2, watch: null, shadow: null })
  })
})

describe('promotion', () => {
  const model = 'waits'

  test('waits for a live node that serves the mask, however long, and for slower ones two minutes', async () => {
    const goOn = stopClock()
    const nodes = [new SimulatedNode('waits-1', model), new SimulatedNode('waits-2', model)] as const
    await nodes[0].beat({ draining: true })
    await seedMasks(model, [1, 2])
    const id = await seedUpdate(model, 2, { state: 'promoting' })
    const at = (ms: number) => advanceUpdate(testDeps({ nowMs: () => Date.now() + ms }), id)
    await at(0)
    expect(await findModel(db, model)).toMatchObject({ activeVersion: 2, watch: null })
    // No node is alive and takes requests: no time makes it promoted.
    expect((await at(600_000))?.state).toBe('promoting')
    for (const node of nodes) await node.beat(holding(1, 1))
    expect((await at(600_000))?.state).toBe('promoting')
    goOn(600_000)
    await nodes[1].beat(holding(1, 1))
    await nodes[0].beat(holding(2, 1, 2))
    expect((await at(100_000))?.state).toBe('promoting')
    expect((await at(121_000))?.state).toBe('promoted')
    const [decision] = await listDecisionsOf(db, id)
    expect(decision?.reason).toBe('Active; 1 of 2 live nodes serve it.')
  })

  test('fails if another mask became active since the mask was compared', async () => {
    const node = new SimulatedNode('stale-1', 'stale')
    await node.beat()
    await seedMasks('stale', [1, 2])
    const id = await seedUpdate('stale', 2, { state: 'promoting', parentVersion: 1 })
    await activate('stale', 0)
    expect((await advanceUpdate(testDeps(), id))?.state).toBe('failed')
    expect(await findUpdate(db, id)).toMatchObject({ errorCode: 'conflict' })
    expect(await findModel(db, 'stale')).toMatchObject({ activeVersion: 0 })
  })

  test('changes nothing if another mask becomes active between its check and its transaction', async () => {
    const node = new SimulatedNode('between-1', 'between')
    await node.beat()
    await seedMasks('between', [1, 2])
    const sha256 = '6'.repeat(64)
    const own = { sha256, domain: 'code', samples: 1 }
    await insertDataset(db, { ...own, bytes: 1, createdAt: 1 })
    const id = await seedUpdate('between', 2, { state: 'promoting', parentVersion: 1, datasets: [sha256] })
    await activate('between', 0)
    const before = await findModel(db, 'between')
    await promoteMask(db, { id, model: 'between' }, 2, Date.now())
    expect(await findModel(db, 'between')).toEqual(before)
    expect(await findMask(db, 'between', 2)).toMatchObject({ promotedAt: null })
    expect(await listCounted(db, 'between')).toEqual([])
    // Beside its parent it does, and once.
    await activate('between', 1)
    for (let call = 0; call < 2; call += 1) await promoteMask(db, { id, model: 'between' }, 2, Date.now())
    expect(await findModel(db, 'between')).toMatchObject({ activeVersion: 2, previousVersion: 1 })
    expect(await findMask(db, 'between', 2)).toMatchObject({ promotedAt: expect.any(Number) as number })
    expect(await listCounted(db, 'between')).toMatchObject([own])
  })
})
