/** Tests that the response of a heartbeat does not wait long for its tasks, and that its calls stay below the maximum of an event. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat, HeartbeatResponse, ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import { createUpdate } from '../../../gateway/src/adaptation/updates/update-requests.ts'
import { createApp } from '../../../gateway/src/app.ts'
import { EVENT_CALLS } from '../../../gateway/src/calls/call-budget.ts'
import type { Bindings } from '../../../gateway/src/contracts/bindings.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { findJob, insertJobs } from '../../../gateway/src/storage/db/queries/job-queries.ts'
import { findModel } from '../../../gateway/src/storage/db/queries/model-queries.ts'
import { listProbeScores } from '../../../gateway/src/storage/db/queries/probe-queries.ts'
import { setTrials } from '../../../gateway/src/storage/db/queries/trial-queries.ts'
import { findUpdate } from '../../../gateway/src/storage/db/queries/update-queries.ts'
import {
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../support/doubles/simulated-node.ts'
import { ready } from '../support/doubles/whole-updates.ts'
import { blockObject } from '../support/faults/held-object.ts'
import { holdStatements } from '../support/faults/held-statements.ts'
import { signedPost, until } from '../support/requests/gateway-requests.ts'
import { countCalls } from '../support/state/counted-calls.ts'
import { seedMasks, seedScores, seedUpdate, setPolicy } from '../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
const HOUR_MS = 60 * 60_000

/** Sends a heartbeat through bindings of its own. Returns the response, and the end of what goes on after it. */
async function send(bindings: Bindings, heartbeat: Heartbeat, app = createApp()) {
  const ctx = createExecutionContext()
  const response = await signedPost(
    '/internal/nodes/heartbeat',
    { ...heartbeat },
    { send: (request) => app.fetch(request, bindings, ctx) },
  )
  expect(response.status).toBe(200)
  return { response: await response.json<HeartbeatResponse>(), end: () => waitOnExecutionContext(ctx) }
}

/** Registers a model whose active mask m2 is watched, and its only node. */
async function watched(model: string, domains = ['code']) {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await seedMasks(model, [2, 1], { promoted: [2, 1] })
  const updateId = await seedUpdate(model, 2, { state: 'promoted', finishedAt: 1, domains })
  const row = await findModel(db, model)
  const sinceMs = Date.now() - HOUR_MS
  const watch = { version: 2, beside: 1, updateId, sinceMs, untilMs: sinceMs + 2 * HOUR_MS }
  if (!row || !(await setTrials(db, row, { watch }))) throw new Error('not watched')
  const heartbeat = (changes: Partial<Heartbeat>) =>
    node.heartbeat({ activeVersion: 2, ...ready(1, 2), process: 'first', ...changes })
  return { node, updateId, heartbeat }
}

const probe = (maskVersion: number) => ({ maskVersion, tokens: 500, nll: 1_500, measuredMsAgo: 0 })

const shadowsOf = (model: string, count: number): ShadowScore[] =>
  Array.from({ length: count }, (_, index) => ({
    requestId: `shadow-${model}-${index}`,
    model,
    domain: `domain-${index}`,
    maskVersion: 2,
    shadowVersion: 1,
    prompt: { tokens: 10, nll: 30, nllShadow: 31 },
    answer: { tokens: 5, nll: 5, nllShadow: 5 },
  }))

const countScores = async (model: string) =>
  (await env.DB.prepare('select count(*) count from shadow_scores where model = ?')
    .bind(model)
    .first('count')) as number

/** Queues jobs of no update that a node is running. */
async function seedJobs(model: string, nodeId: string, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, index) => `${model}-job-${index}`)
  const rows = ids.map((id) => {
    const payload: EvaluateJob = { kind: 'evaluate', id, model, mask: null, holdouts: [], windowTokens: 512 }
    const running = { state: 'running' as const, nodeId, handedTo: [nodeId], attempts: 1 }
    return { id, updateId: 'none', model, kind: 'evaluate' as const, payload, createdAt: 1, ...running }
  })
  await insertJobs(db, rows)
  return ids
}

const failed = (id: string) =>
  ({
    id,
    state: 'failed',
    progress: 0.5,
    message: '',
    error: { code: 'internal_error', message: 'the disk is full' },
  }) as const

describe('a heartbeat whose database is slow', () => {
  const jobState = async (model: string) => (await findJob(db, `${model}-job-0`))?.state
  test.each<[string, RegExp, (model: string) => Partial<Heartbeat>, (model: string) => Promise<boolean>]>([
    [
      'shadow scores',
      /insert into "shadow_scores"/,
      (model) => ({ shadows: shadowsOf(model, 2) }),
      async (model) => (await countScores(model)) === 2,
    ],
    [
      'scores of the probe texts',
      /from "probe_scores"/,
      () => ({ probes: [probe(2)] }),
      async (model) => (await listProbeScores(db, model, 0, 2)).length === 1,
    ],
    [
      'reports of jobs',
      /update "jobs"/,
      (model) => ({ jobs: [failed(`${model}-job-0`)] }),
      async (model) => (await jobState(model)) === 'failed',
    ],
    [
      'the check of the active mask',
      /checkedAtMs/,
      () => ({}),
      async (model) => (await findModel(db, model))?.watch?.checkedAtMs !== undefined,
    ],
  ])('gets its response before %s, which go on', async (what, pattern, changes, isDone) => {
    const model = `slow-${what.replaceAll(' ', '-')}`
    const { heartbeat } = await watched(model)
    await seedJobs(model, `${model}-1`, 1)
    const held = holdStatements(pattern)
    const bindings = { ...env, DB: held.database, COPAL_NODE_SILENT_MS: '600' }
    const sent = send(bindings, heartbeat(changes(model)))
    await held.waiting
    const late = new Promise<undefined>((resolve) => setTimeout(resolve, 60_000, undefined))
    const answered = await Promise.race([sent, late])
    expect(answered?.response.desired.active?.version).toBe(2)
    expect(await isDone(model)).toBe(false)
    held.release()
    await answered?.end()
    expect(await isDone(model)).toBe(true)
  })

  test('does not store what a node reports while earlier reports of it are being stored, and says which scores are lost', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    onTestFinished(() => warn.mockRestore())
    const model = 'slow-twice'
    const { heartbeat } = await watched(model)
    const held = holdStatements(/insert into "shadow_scores"/)
    const bindings = { ...env, DB: held.database, COPAL_NODE_SILENT_MS: '600' }
    const app = createApp()
    const scores = shadowsOf(model, 3)
    const first = await send(bindings, heartbeat({ shadows: scores.slice(0, 1) }), app)
    await send(bindings, heartbeat({ shadows: scores.slice(1) }), app)
    expect(warn.mock.calls).toEqual([
      [`2 shadow scores of node '${model}-1' are lost, because those before are still being stored.`],
    ])
    held.release()
    await first.end()
    expect(await countScores(model)).toBe(1)
    const next = await send(bindings, heartbeat({ shadows: scores.slice(2) }), app)
    await next.end()
    expect(await countScores(model)).toBe(2)
  })
})

test('a step that takes long delays no heartbeat, and goes on after the response', async () => {
  const node = new SimulatedNode('long-1', 'long')
  await node.beat()
  await importTexts('long-a')
  const { id } = await startUpdate('long', ['long-a'])
  const reservoir = await blockObject(testDeps().reservoir('long-a'))
  const app = createApp()
  // The first waits 100 ms for the step. The second would wait ten minutes if it ran one of its own.
  for (const silentMs of [600, 3_600_000]) {
    const bindings = { ...env, COPAL_NODE_SILENT_MS: String(silentMs) }
    const { response } = await send(bindings, node.heartbeat(), app)
    expect([response, (await getUpdate(id)).state]).toMatchObject([{ jobs: [] }, 'collecting'])
  }
  // The runtime would have ended the block after half a minute, and this would fail.
  await reservoir.release()
  await until('the end of the step', async () => (await getUpdate(id)).state !== 'collecting' || undefined)
})

test('a heartbeat in which each task has as much to do as it can have makes fewer calls than an event may, and later ones do the rest', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  const model = 'busy'
  const nodeId = `${model}-1`
  const domains = Array.from({ length: 300 }, (_, index) => `${model}-domain-${index}`)
  await new SimulatedNode(`${model}-2`, model).beat()
  const { node, updateId, heartbeat } = await watched(model, domains)
  await setPolicy(model, { influence: { outlier_deviations: null } })
  // An update with 240 batches of a version that kept no marks of texts: each takes two calls.
  const collected = [`${model}-a`, `${model}-b`]
  for (const domain of collected) {
    await importTexts(domain)
    await env.DB.prepare(
      `insert into batches (model, dataset_sha256, update_id, domain, state, tokens, marked, created_at)
        with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 240)
        select ?1, ?2 || n, 'old', ?2, 'counted', 1, 0, 1 from numbers`,
    )
      .bind(`${model} of before`, domain)
      .run()
  }
  const request = { model, domains: collected, selection: {}, samples: 2, length: 64, seed: 0 }
  const { id } = await createUpdate(testDeps(), request)
  // The watched mask does harm, and its update has texts of many domains to give back.
  await seedScores(model, { maskVersion: 2, shadowVersion: 1, gap: -0.5, count: 400 })
  const jobs = (await seedJobs(model, nodeId, 60)).map(failed)
  await seedMasks(model, [3, 4, 5, 6, 7], { active: null })
  const probes = [0, 1, 2, 3, 4, 5, 6, 7].map(probe)
  const counted = countCalls(env)
  const calls: number[] = []
  for (let beat = 0; beat < 40 && (await getUpdate(id)).state === 'collecting'; beat += 1) {
    counted.take()
    const shadows = shadowsOf(`${model}-${beat}`, 64).map((score) => ({ ...score, model }))
    const sent = await send(counted.bindings, heartbeat({ jobs, probes, shadows }))
    await sent.end()
    calls.push(counted.take().all)
  }
  expect(Math.max(...calls)).toBeGreaterThan(EVENT_CALLS / 2)
  expect(Math.max(...calls)).toBeLessThanOrEqual(EVENT_CALLS)
  expect((await getUpdate(id)).state).not.toBe('collecting')
  expect((await findUpdate(db, updateId))?.state).toBe('rolled_back')
  expect((await findModel(db, model))?.activeVersion).toBe(1)
  for (const { id: job } of jobs) expect(await findJob(db, job)).toMatchObject({ state: 'queued' })
  expect(node.jobs).toEqual([])
})
