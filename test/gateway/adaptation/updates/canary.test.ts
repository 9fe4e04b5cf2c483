import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { CanaryReport } from '@copal/shared/wire/admin-trials.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDecisionsOf } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { insertDataset } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { changeUpdate, findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { canary as canaryStep } from '../../../../gateway/src/adaptation/updates/canary-step.ts'
import { admin, adminJson, SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { ready } from '../../support/doubles/whole-updates.ts'
import { errorOf, get } from '../../support/requests/gateway-requests.ts'
import {
  activate,
  seedMasks,
  seedReceipts,
  seedScores,
  seedUpdate,
  setPolicy,
} from '../../support/state/seed-masks.ts'
import { batchRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const MINUTE_MS = 60_000

/** A model that serves m1, with an update whose m2 has passed the gate, and a node that holds both masks. */
async function inCanary(model: string, canary: PolicyOverrides['canary'] = {}, { isHeld = true } = {}) {
  const move = stopClock()
  const startMs = Date.now()
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await seedMasks(model, [1, 2])
  await setPolicy(model, { canary: { min_minutes: 0, min_scored_tokens: 1_000, ...canary } })
  const id = await seedUpdate(model, 2)
  await node.beat()
  const holding = { activeVersion: 1, ...ready(1, 2) }
  await node.beat(isHeld ? holding : { activeVersion: 1, ...ready(1) })
  return {
    id,
    node,
    holding,
    score: (gap: number, count: number, domain = 'code') =>
      seedScores(model, { maskVersion: 1, shadowVersion: 2, gap, count, domain }),
    /** Sets the clock to a time since the beginning, lets the node send a heartbeat, and advances the update. */
    after: async (ms: number, beat: Partial<Heartbeat> | 'silent' = holding) => {
      move(startMs + ms - Date.now())
      if (beat !== 'silent') await node.beat(beat)
      return advanceUpdate(testDeps(), id)
    },
    decisions: () => listDecisionsOf(db, id),
    modelRow: () => findModel(db, model),
  }
}

describe('a canary', () => {
  test('begins as canary and shadow of the policy beside the active mask, and nodes load its mask', async () => {
    const { id, node, modelRow } = await inCanary('begin', { share: 0.2, shadow_share: 0.4 })
    const trial = { version: 2, beside: 1, updateId: id }
    expect(await modelRow()).toMatchObject({
      activeVersion: 1,
      canary: { ...trial, share: 0.2 },
      shadow: { ...trial, share: 0.4 },
    })
    expect((await node.beat()).desired).toMatchObject({ active: { version: 1 }, trials: [{ version: 2 }] })
    expect(await adminJson<UpdateEntry>('GET', `/updates/${id}`)).toMatchObject({
      state: 'canary',
      finished_at: null,
    })
  })

  test('says whether anything is compared yet, in lists too', async () => {
    const { id, score, after } = await inCanary('message', { share: 0.05 })
    const messages = async () => {
      const { data } = await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')
      const { message } = await adminJson<UpdateEntry>('GET', `/updates/${id}`)
      return [message, data.find((update) => update.id === id)?.message]
    }
    const runs = 'm2 is a canary: it answers 5 % of the conversations; '
    const nothing = `${runs}no request was scored under both masks yet; only requests that may be sampled are`
    expect(await messages()).toEqual([nothing, nothing])
    await after(11_000)
    expect(await messages()).toEqual([nothing, nothing])
    await score(0, 3)
    await after(22_000)
    const some = `${runs}3 requests were scored under both masks`
    expect(await messages()).toEqual([some, some])
  })

  test('that waits for the end of a watch says when it begins', async () => {
    const model = 'message-watch'
    const node = new SimulatedNode(`${model}-1`, model)
    await node.beat()
    await seedMasks(model, [1, 2])
    const untilMs = Date.parse('2030-01-01T00:00:00Z')
    const watch = { version: 1, beside: 0, updateId: 'before', sinceMs: 1, untilMs }
    await env.DB.prepare('update models set watch = ? where id = ?').bind(JSON.stringify(watch), model).run()
    const id = await seedUpdate(model, 2)
    const { message } = await adminJson<UpdateEntry>('GET', `/updates/${id}`)
    expect(message).toBe('m2 becomes a canary when m1 is no longer watched, at 2030-01-01 00:00 UTC')
  })

  test('that does harm to one domain is rolled back at once, with the figure that proves it', async () => {
    const { id, node, holding, score, after, decisions, modelRow } = await inCanary('harm')
    const sha256 = '7'.repeat(64)
    await insertDataset(db, { sha256, domain: 'code', samples: 1, bytes: 1, createdAt: 1 })
    await changeUpdate(db, (await findUpdate(db, id))!, { datasets: [sha256] })
    await score(0, 300)
    await score(0.3, 200, 'legal')
    expect((await after(11_000))?.state).toBe('rolled_back')
    expect(await modelRow()).toMatchObject({ activeVersion: 1, canary: null, shadow: null })
    const [decision, ...others] = await decisions()
    expect(others).toEqual([])
    expect(decision).toMatchObject({ kind: 'canary', verdict: 'failed', maskVersion: 2, actor: 'copal' })
    expect(decision?.reason).toMatch(
      /^Rolled back: .*domain 'legal'.*above that of m1, and 0\.0488 are allowed/,
    )
    const legal = decision?.figures.find(({ domain }) => domain === 'legal')
    expect(legal).toMatchObject({ passed: false, limit: Math.log(1.05) })
    expect(legal?.lower).toBeGreaterThan(Math.log(1.05))
    expect((await node.beat(holding)).desired).not.toHaveProperty('trials')
    expect(await findUpdate(db, id)).toMatchObject({ errorCode: null, maskVersion: 2 })
    expect(await batchRowsOf(id)).toMatchObject([{ datasetSha256: sha256, state: 'quarantined' }])
    expect(await listCounted(db, 'harm')).toEqual([])
  })

  test('that fails requests is rolled back', async () => {
    const { after, decisions } = await inCanary('failing')
    await seedReceipts('failing', { maskVersion: 1, count: 400 })
    await seedReceipts('failing', { maskVersion: 2, count: 200, failEvery: 3 })
    expect((await after(11_000))?.state).toBe('rolled_back')
    const [decision] = await decisions()
    expect(decision?.reason).toMatch(/at least \d+\.\d % of its requests failed, and/)
  })

  test('that answers slowly is rolled back', async () => {
    const { after, decisions } = await inCanary('slow')
    await seedReceipts('slow', { maskVersion: 1, count: 400, firstTokenMs: 150 })
    await seedReceipts('slow', { maskVersion: 2, count: 200, firstTokenMs: 900 })
    expect((await after(11_000))?.state).toBe('rolled_back')
    expect((await decisions())[0]?.reason).toMatch(/of its requests had a slow first token, and/)
  })

  test('that is proven not worse is promoted, but not before its minimum time and scored tokens', async () => {
    const { id, node, score, after, decisions, modelRow } = await inCanary('good', {
      min_minutes: 10,
      min_scored_tokens: 50_000,
    })
    await score(0, 1_200)
    expect((await after(11 * MINUTE_MS))?.state).toBe('canary')
    await score(-0.01, 400)
    expect((await after(5 * MINUTE_MS))?.state).toBe('canary')
    expect((await after(22 * MINUTE_MS))?.state).toBe('promoting')
    expect(await modelRow()).toMatchObject({
      activeVersion: 2,
      previousVersion: 1,
      canary: null,
      shadow: null,
    })
    expect(await decisions()).toMatchObject([{ kind: 'canary', verdict: 'passed' }])
    expect((await decisions())[0]?.reason).toMatch(
      /^Proven not worse than m1 after \d+ minutes: 1,600 requests/,
    )
    await node.beat()
    await node.beat({ activeVersion: 2, ...ready(1, 2) })
    expect((await findUpdate(db, id))?.state).toBe('promoted')
    expect((await decisions()).map(({ kind, verdict }) => [kind, verdict])).toEqual([
      ['canary', 'passed'],
      ['promote', 'done'],
    ])
  })

  test('without harm is promoted after the maximum time, counted from when a node held its mask', async () => {
    const { after, decisions } = await inCanary('limit', { max_minutes: 60 }, { isHeld: false })
    expect((await after(11_000, { activeVersion: 1, ...ready(1) }))?.state).toBe('canary')
    expect((await after(40 * MINUTE_MS))?.state).toBe('canary')
    expect((await after(90 * MINUTE_MS))?.state).toBe('canary')
    expect((await after(101 * MINUTE_MS))?.state).toBe('promoting')
    expect((await decisions())[0]).toMatchObject({
      verdict: 'passed',
      reason:
        'No harm in 60 minutes, the maximum of the policy: no request was scored under both masks, so their losses were not compared.',
    })
  })

  test('that can be cancelled ends its trials with it', async () => {
    const { id, modelRow, after } = await inCanary('cancel')
    expect((await admin('POST', `/updates/${id}/cancel`)).status).toBe(200)
    expect(await modelRow()).toMatchObject({ activeVersion: 1, canary: null, shadow: null })
    expect((await after(11_000))?.state).toBe('cancelled')
    expect(await modelRow()).toMatchObject({ canary: null, shadow: null })
  })

  test('whose node dies waits for another one, and goes on with what was measured', async () => {
    const { after, score, decisions } = await inCanary('dies', { max_minutes: 30, min_scored_tokens: 1e6 })
    await score(0, 1_000)
    const loading = [...(ready(1).weightSets ?? []), { version: 2, state: 'loading' as const, requests: 0 }]
    expect((await after(11_000))?.state).toBe('canary')
    // While no live node holds the mask, the maximum time does not end the canary.
    const back = { activeVersion: 1, weightSets: loading }
    expect((await after(31 * MINUTE_MS, back))?.state).toBe('canary')
    expect((await after(40 * MINUTE_MS))?.state).toBe('canary')
    expect((await after(69 * MINUTE_MS))?.state).toBe('canary')
    expect((await after(71 * MINUTE_MS))?.state).toBe('promoting')
    expect((await decisions())[0]?.reason).toContain('1,000 requests with 40,000 tokens were scored')
  })

  test('whose node restarts goes on with the time in which it held the mask', async () => {
    const { after } = await inCanary('restarts', { max_minutes: 30, min_scored_tokens: 1e6 })
    for (const minutes of [1, 21]) expect((await after(minutes * MINUTE_MS))?.state).toBe('canary')
    expect((await after(22 * MINUTE_MS, { activeVersion: 1, ...ready(1) }))?.state).toBe('canary')
    // It held the mask for 21 minutes.
    for (const minutes of [50, 58]) expect((await after(minutes * MINUTE_MS))?.state).toBe('canary')
    expect((await after(61 * MINUTE_MS))?.state).toBe('promoting')
  })

  test('that no live node can load for two minutes fails the update', async () => {
    const { id, after, modelRow } = await inCanary('unloadable')
    const failed = { version: 2, state: 'failed' as const, requests: 0, error: 'out of memory' }
    const broken = { activeVersion: 1, weightSets: [...(ready(1).weightSets ?? []), failed] }
    expect((await after(11_000, broken))?.state).toBe('canary')
    expect((await after(120_000, broken))?.state).toBe('canary')
    expect((await after(132_000, broken))?.state).toBe('failed')
    expect(await findUpdate(db, id)).toMatchObject({ errorCode: 'node_failed' })
    expect((await findUpdate(db, id))?.errorMessage).toContain('out of memory')
    expect(await modelRow()).toMatchObject({ activeVersion: 1, canary: null, shadow: null })
  })

  test('that no node can load fails the update also if each check meets another attempt', async () => {
    const { after } = await inCanary('retried')
    const failed = { version: 2, state: 'failed' as const, requests: 0, error: 'out of memory' }
    for (const [ms, state] of [
      [11_000, 'failed'],
      [60_000, 'loading'],
      [100_000, 'failed'],
      [120_000, 'loading'],
    ] as const) {
      const sets = [...(ready(1).weightSets ?? []), { ...failed, state }]
      expect((await after(ms, { activeVersion: 1, weightSets: sets }))?.state).toBe('canary')
    }
    const broken = { activeVersion: 1, weightSets: [...(ready(1).weightSets ?? []), failed] }
    expect((await after(132_000, broken))?.state).toBe('failed')
  })

  test('waits for a node that loads other weights first, as after a restart, and not for one without memory', async () => {
    const { after } = await inCanary('restarted')
    const loading = { version: 0, state: 'loading' as const, requests: 0 }
    const others = { activeVersion: 1, weightSets: [...(ready(1).weightSets ?? []), loading] }
    for (const ms of [11_000, 132_000, 600_000]) expect((await after(ms, others))?.state).toBe('canary')
    const memory = { budgetBytes: 10, freeBytes: 1, unheld: [{ version: 2, bytes: 5 }] }
    expect((await after(611_000, { ...others, memory }))?.state).toBe('canary')
    expect((await after(732_000, { ...others, memory }))?.state).toBe('failed')
  })

  test('that a node could load in between does not fail for what happened before', async () => {
    const { after, holding } = await inCanary('reloadable')
    const failed = { version: 2, state: 'failed' as const, requests: 0, error: 'out of memory' }
    const broken = { activeVersion: 1, weightSets: [...(ready(1).weightSets ?? []), failed] }
    for (const [ms, beat] of [
      [11_000, broken],
      [60_000, holding],
      [600_000, broken],
    ] as const)
      expect((await after(ms, beat))?.state).toBe('canary')
    expect((await after(721_000, broken))?.state).toBe('failed')
  })

  test('is judged at most once in ten seconds, and alike by a gateway that has just started', async () => {
    const { after, score, modelRow, decisions } = await inCanary('often')
    await after(11_000)
    const checkedAtMs = (await modelRow())?.canary?.checkedAtMs
    await score(0.3, 400)
    expect((await after(20_000))?.state).toBe('canary')
    expect((await modelRow())?.canary?.checkedAtMs).toBe(checkedAtMs)
    // Nothing is kept in memory: the database alone decides. Concurrent callers make one decision.
    const late = await Promise.all(Array.from({ length: 5 }, () => after(21_500, 'silent')))
    expect(late.map((update) => update?.state)).toContain('rolled_back')
    expect(await decisions()).toHaveLength(1)
  })

  test('is judged also after the clock was set back', async () => {
    const { after, score } = await inCanary('clock')
    expect((await after(11_000))?.state).toBe('canary')
    await score(0.3, 400)
    expect((await after(-60 * MINUTE_MS))?.state).toBe('rolled_back')
  })

  test('does not begin for a caller that read the update before it was cancelled', async () => {
    const node = new SimulatedNode('late-1', 'late')
    await node.beat()
    await seedMasks('late', [1, 2])
    const id = await seedUpdate('late', 2)
    const before = (await findUpdate(db, id))!
    expect((await admin('POST', `/updates/${id}/cancel`)).status).toBe(200)
    await canaryStep(testDeps(), before)
    expect(await findModel(db, 'late')).toMatchObject({ canary: null, shadow: null })
  })

  test('ends as failed when another mask becomes active meanwhile', async () => {
    const { id, after, modelRow } = await inCanary('replaced')
    await activate('replaced', 0)
    expect((await after(11_000))?.state).toBe('failed')
    expect(await findUpdate(db, id)).toMatchObject({ errorCode: 'conflict' })
    expect(await modelRow()).toMatchObject({ activeVersion: 0, canary: null, shadow: null })
  })

  test('of the first mask is compared with the dense weights by the ratio of the policy', async () => {
    const node = new SimulatedNode('first-1', 'first')
    await node.beat()
    await seedMasks('first', [1], { active: null })
    await setPolicy('first', { canary: { min_minutes: 0, min_scored_tokens: 0 } })
    const id = await seedUpdate('first', 1)
    await node.beat()
    await node.beat(ready(0, 1))
    await seedScores('first', { maskVersion: 0, shadowVersion: 1, gap: 0.2, count: 500 })
    await node.beat(ready(0, 1))
    const update = await advanceUpdate(testDeps({ nowMs: () => Date.now() + 11_000 }), id)
    expect(update?.state).toBe('promoting')
  })

  test('is neither promoted without a score nor spared for harm by a gate that allows three times the perplexity', async () => {
    const { score, after } = await inCanary('wide', { min_scored_tokens: 0 })
    const gate = { max_regression: 3, max_refresh_regression: 3 }
    await setPolicy('wide', { gate, canary: { min_minutes: 0, min_scored_tokens: 0 } })
    expect((await after(11_000))?.state).toBe('canary')
    await score(6, 200)
    expect((await after(22_000))?.state).toBe('rolled_back')
  })
})

describe("an operator's trials", () => {
  test('cannot start, change or end while an update runs its canary', async () => {
    const { id } = await inCanary('operator')
    for (const kind of ['canary', 'shadow'] as const) {
      for (const call of [
        () => admin('PUT', `/${kind}`, { model: 'operator', mask_version: 2, share: 0.5 }),
        () => admin('DELETE', `/${kind}?model=operator`),
      ]) {
        const response = await call()
        expect(response.status).toBe(409)
        expect((await errorOf(response)).message).toContain(`Update '${id}'`)
      }
    }
  })

  test.each(['canary', 'shadow'] as const)(
    'a running %s keeps an update from starting, and fails one that enters its canary, with instructions',
    async (kind) => {
      const model = `busy-${kind}`
      const node = new SimulatedNode(`${model}-1`, model)
      await node.beat()
      await seedMasks(model, [1, 2, 3], { promoted: [1, 3] })
      expect((await admin('PUT', `/${kind}`, { model, mask_version: 3, share: 0.5 })).status).toBe(200)
      await setPolicy(model, { canary: { enabled: true } })
      const early = await admin('POST', '/updates', { model, domains: ['code'] })
      expect((await errorOf(early)).message).toContain(
        `an operator's ${kind} of m3 is running. End it with 'DELETE /admin/${kind}'`,
      )
      const id = await seedUpdate(model, 2)
      await node.beat()
      expect(await findUpdate(db, id)).toMatchObject({ state: 'failed', errorCode: 'conflict' })
      expect((await findUpdate(db, id))?.errorMessage).toContain(`'DELETE /admin/${kind}'`)
      expect((await findModel(db, model))?.[kind]).toMatchObject({ version: 3 })
    },
  )
})

test('a canary of an update is shown by status, the canary report and the metrics', async () => {
  const { id, score, after } = await inCanary('shown')
  const shown = async () => {
    const { models } = await adminJson<StatusReport>('GET', '/status')
    return models.find((model) => model.id === 'shown')?.canary
  }
  await after(11_000)
  // Nothing is scored yet.
  expect(await shown()).toMatchObject({ evidence: { requests: 0, gap: null } })
  await score(0.0625, 100)
  await after(22_000)
  const evidence = { requests: 100, tokens: 4_000, gap: 0.0625 }
  const canary = await shown()
  expect(canary).toMatchObject({ mask_version: 2, update_id: id, evidence })
  const report = await adminJson<CanaryReport>('GET', '/canary?model=shown')
  expect(report.canary).toEqual(canary)
  const metrics = await (await get('/metrics')).text()
  expect(metrics).toMatch(
    /copal_trial_gap_nats\{model="shown",mask_version="2",trial="canary",bound="mean"\} 0\.0625/,
  )
  expect(metrics).toMatch(/copal_trial_scored_requests\{model="shown",mask_version="2",trial="canary"\} 100/)
})
