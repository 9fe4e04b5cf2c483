import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { CalibrateJob, EvaluateJob, Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { advanceUpdate, advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { FORCEABLE_MS } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listEvaluations } from '../../../../gateway/src/storage/db/queries/evaluation-queries.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { evaluateStep } from '../../../../gateway/src/adaptation/updates/evaluate-step.ts'
import {
  admin,
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
  type Scores,
} from '../../support/doubles/simulated-node.ts'
import { scoresByOrder } from '../../support/doubles/scores-by-order.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { jobRowsOf } from '../../support/state/rows-of.ts'
import { verdictsOf } from '../../support/state/verdicts-of.ts'

const db = openDatabase(env.DB)

/** Starts a model whose first mask was calibrated on one domain and is active. */
async function servingModel(model: string, scores: Scores) {
  const node = new SimulatedNode(`${model}-1`, model, scores)
  await node.beat()
  await importTexts(`${model}-old`)
  expect((await node.finish((await startUpdate(model, [`${model}-old`])).id)).state).toBe('promoted')
  await importTexts(`${model}-new`)
  return node
}

const jobsOf = async (id: string) => (await jobRowsOf(id)).map(({ payload }) => payload)
describe('an update with a new domain', () => {
  test('passes the gate when it gains more there than the old one loses, and says so in its decision', async () => {
    const node = await servingModel(
      'gain',
      scoresByOrder({ 'gain-old': [10, 12, 12.2], 'gain-new': [10, 20, 14] }),
    )
    const { id } = await startUpdate('gain', ['gain-new'])
    const end = await node.finish(id)
    expect(end.state).toBe('promoted')
    expect(verdictsOf(end).slice(0, 1)).toEqual([['gate', 'passed', 2]])
    const figures = end.decisions?.[0]?.figures ?? []
    const old = figures.find(({ name, domain }) => name === 'perplexity / parent' && domain === 'gain-old')
    expect(old).toMatchObject({ value: expect.closeTo(12.2 / 12, 9) as number, limit: 1.05, passed: true })
    // No constraint for the new domain: a gain or a loss there is part of the purpose only.
    expect(
      figures.filter(({ name }) => name === 'perplexity / parent').map(({ domain }) => domain),
    ).not.toContain('gain-new')
    expect(figures.find(({ name }) => name === 'perplexity / parent, weighted')).toMatchObject({ limit: 1 })
  })

  test('evaluates the active mask once for each holdout version, and keeps the losses of windows', async () => {
    const node = await servingModel(
      'once',
      scoresByOrder({ 'once-old': [10, 12, 11.9], 'once-new': [10, 20, 15] }),
    )
    const { id } = await startUpdate('once', ['once-new'])
    await node.finish(id)
    const evaluations = (await jobsOf(id)).filter((job) => job.kind === 'evaluate')
    const parent = evaluations.find((job) => job.id === `${id}-parent`)
    expect(parent?.holdouts.map(({ domain }) => domain)).toEqual(['once-new'])
    expect(evaluations.find((job) => job.id === `${id}-evaluate`)?.checkGeneration).toBe(true)
    // What dense generates is known since the first update.
    expect(evaluations.find((job) => job.id === `${id}-dense`)?.checkGeneration).toBe(false)
    const cells = (await listEvaluations(db, 'once')).filter(({ version }) => version > 0)
    expect(cells.every(({ windowNll }) => windowNll?.length === 20)).toBe(true)
  })

  test('is selected again with other weights when an old domain loses too much, and the better candidate serves', async () => {
    const node = await servingModel(
      'again',
      scoresByOrder({ 'again-old': [10, 12, 13.2, 12.1], 'again-new': [10, 20, 12, 13] }),
    )
    const { id } = await startUpdate('again', ['again-new'])
    const end = await node.finish(id)
    expect(end).toMatchObject({ state: 'promoted', candidate: 2, mask_version: 3 })
    expect(verdictsOf(end).slice(0, 2)).toEqual([
      ['gate', 'retried', 2],
      ['gate', 'passed', 3],
    ])
    const [first, second] = (await jobsOf(id)).filter((job): job is CalibrateJob => job.kind === 'calibrate')
    expect([first?.id, second?.id]).toEqual([`${id}-calibrate`, `${id}-calibrate-2`])
    const weights = second?.selection.weights ?? {}
    // First 60 % to 40 %. 10 % worse with a bound above 1.05: the factor is 2 + 40 · log(1.1/1.05).
    expect((weights['again-old'] ?? 0) / (weights['again-new'] ?? 1)).toBeCloseTo(
      1.5 * (2 + 40 * Math.log(1.1 / 1.05)),
      6,
    )
    // Candidates and parent are compared on the same versions.
    const [one, two] = (await jobsOf(id)).filter(
      (job): job is EvaluateJob => job.kind === 'evaluate' && job.id.includes('-evaluate'),
    )
    expect(two?.holdouts).toEqual(one?.holdouts)
    expect((await jobsOf(id)).filter(({ id: job }) => job.endsWith('-parent'))).toHaveLength(1)
  })

  test('fails after three candidates with the figures of each, and the active mask stays', async () => {
    const node = await servingModel(
      'three',
      scoresByOrder({ 'three-old': [10, 12, 13.2], 'three-new': [10, 20, 12] }),
    )
    const { id } = await startUpdate('three', ['three-new'])
    const end = await node.finish(id)
    expect(end).toMatchObject({ state: 'failed', candidate: 3, error: { code: 'gate_failed' } })
    expect(end.error?.message).toMatch(
      /m4 is rejected.*on 'three-old' is 1\.100 × .*at most 1\.050 ×.*candidate 3/,
    )
    expect(verdictsOf(end)).toEqual([
      ['gate', 'retried', 2],
      ['gate', 'retried', 3],
      ['gate', 'failed', 4],
    ])
    expect(await findModel(db, 'three')).toMatchObject({ activeVersion: 1 })
    expect((await node.beat()).desired.active).toMatchObject({ version: 1 })
    const tries = (await jobsOf(id)).filter((job): job is CalibrateJob => job.kind === 'calibrate')
    const ratios = tries.map(
      ({ selection: { weights = {} } }) => (weights['three-old'] ?? 1) / (weights['three-new'] ?? 1),
    )
    expect(ratios[0]).toBeCloseTo(1.5, 12)
    expect((ratios[2] ?? 0) / (ratios[1] ?? 1)).toBeCloseTo((ratios[1] ?? 0) / 1.5, 6)
    // All are tested on the same text beside the same mask, and so are those of the next update.
    const next = await node.finish((await startUpdate('three', ['three-new'])).id)
    const reasons = [end, next].map(({ decisions = [] }) =>
      decisions.map(({ reason }) => /candidate \d+ beside the active mask/.exec(reason)?.[0]),
    )
    expect(reasons.map((each) => each.slice(0, 3))).toEqual([
      [undefined, 'candidate 2 beside the active mask', 'candidate 3 beside the active mask'],
      [4, 5, 6].map((candidate) => `candidate ${candidate} beside the active mask`),
    ])
  })

  test('fails at once where other weights cannot help, or the policy allows one candidate', async () => {
    const node = await servingModel(
      'single',
      scoresByOrder({ 'single-old': [10, 12, 13.2], 'single-new': [10, 20, 12] }),
    )
    await adminJson('PUT', '/policy', { model: 'single', gate: { max_candidates: 1 } })
    const end = await node.finish((await startUpdate('single', ['single-new'])).id)
    expect(verdictsOf(end)).toEqual([['gate', 'failed', 2]])
    await adminJson('PUT', '/policy', { model: 'single', gate: { max_regression: 1.2 } })
    expect((await node.finish((await startUpdate('single', ['single-new'])).id)).state).toBe('promoted')
  })
})

describe('the first mask of a model', () => {
  test('is compared with dense, and not selected again where all of its domains fail', async () => {
    const node = new SimulatedNode('first-1', 'first', scoresByOrder({ 'first-a': [10, 15.1] }))
    await node.beat()
    await importTexts('first-a')
    const end = await node.finish((await startUpdate('first', ['first-a'])).id)
    expect(end).toMatchObject({ state: 'failed', candidate: 1, error: { code: 'gate_failed' } })
    expect(end.error?.message).toContain("on 'first-a' is 1.510 × that of the dense model")
    expect(await findModel(db, 'first')).toMatchObject({ activeVersion: 0 })
  })
})

test('a mask that generates noise is rejected, however low its loss', async () => {
  const node = await servingModel('noise', scoresByOrder({ 'noise-old': [10, 12, 9] }))
  const done = node.done.bind(node)
  node.done = async (job: Job): Promise<JobReport> => {
    const report = await done(job)
    if (report.result?.kind !== 'evaluate' || !report.result.generation) return report
    const generation = { ...report.result.generation, repetition: 0.99 }
    return { ...report, result: { ...report.result, generation } }
  }
  const { id } = await startUpdate('noise', ['noise-old'])
  const end = await node.finish(id)
  expect(end).toMatchObject({ state: 'failed', candidate: 1, error: { code: 'gate_failed' } })
  expect(end.error?.message).toContain('It repeats 99 % of its output; at most 90 % are allowed.')
  const forced = await admin('POST', `/updates/${id}/force`, { reason: 'I want to see it anyway' })
  expect([forced.status, (await errorOf(forced)).message]).toEqual([
    409,
    expect.stringContaining('cannot be forced'),
  ])
})

test('concurrent steps give one decision for each candidate', async () => {
  const node = await servingModel(
    'crowd',
    scoresByOrder({ 'crowd-old': [10, 12, 13.2, 12], 'crowd-new': [10, 20, 12] }),
  )
  const { id } = await startUpdate('crowd', ['crowd-new'])
  const crowd = () => Promise.all(Array.from({ length: 5 }, () => advanceUpdate(testDeps(), id)))
  for (let turn = 0; turn < 14; turn += 1) {
    await Promise.all([node.beat(), advanceUpdates(testDeps()), crowd()])
    await node.work()
  }
  const end = await getUpdate(id)
  expect(end).toMatchObject({ state: 'promoted', mask_version: 3 })
  expect(verdictsOf(end).filter(([kind]) => kind === 'gate')).toEqual([
    ['gate', 'retried', 2],
    ['gate', 'passed', 3],
  ])
})

test('the decision reads the losses of all masks on its holdouts once', async () => {
  const node = await servingModel(
    'read',
    scoresByOrder({ 'read-old': [10, 12, 11.9], 'read-new': [10, 20, 15] }),
  )
  const { id } = await startUpdate('read', ['read-new'])
  await node.finish(id)
  let reads = 0
  const counting = new Proxy(env.DB, {
    get: (database, name: keyof D1Database) => (query: never) => {
      if (name === 'prepare' && /from "evaluations" left join "masks"/.test(query)) reads += 1
      return database[name](query)
    },
  })
  const update = await findUpdate(db, id)
  if (!update) throw new Error('no update')
  const jobs = await jobRowsOf(id)
  const finished = evaluateStep
    .jobIds(update)
    .flatMap((jobId) => jobs.find((job) => job.id === jobId) ?? [])
    .flatMap((job) => (job.result ? { job, result: job.result } : []))
  const outcome = await evaluateStep.finish({ ...testDeps(), db: openDatabase(counting) }, update, finished)
  expect(outcome?.decision).toMatchObject({ kind: 'gate', verdict: 'passed' })
  expect(reads).toBe(1)
})

test('a gateway that stopped between two of the evaluation jobs queues the missing ones', async () => {
  const node = await servingModel(
    'gap',
    scoresByOrder({ 'gap-old': [10, 12, 11.9], 'gap-new': [10, 20, 15] }),
  )
  const { id } = await startUpdate('gap', ['gap-new'])
  await node.reach(id, 'evaluating')
  await advanceUpdate(testDeps(), id)
  await env.DB.prepare('delete from jobs where id in (?, ?)').bind(`${id}-parent`, `${id}-dense`).run()
  expect((await node.finish(id)).state).toBe('promoted')
  expect((await jobsOf(id)).map((job) => job.id).sort()).toEqual(
    [`${id}-calibrate`, `${id}-dense`, `${id}-evaluate`, `${id}-parent`].sort(),
  )
})

test('a step that has read the jobs before another one queued the missing ones waits for them', async () => {
  const node = await servingModel(
    'overtaken',
    scoresByOrder({ 'overtaken-old': [10, 12, 11.9], 'overtaken-new': [10, 20, 15] }),
  )
  const { id } = await startUpdate('overtaken', ['overtaken-new'])
  await node.reach(id, 'evaluating')
  await advanceUpdate(testDeps(), id)
  await env.DB.prepare('delete from jobs where id in (?, ?)').bind(`${id}-parent`, `${id}-dense`).run()
  for (let turn = 0; turn < 2; turn += 1) {
    await node.beat()
    await node.work()
  }
  const update = await findUpdate(db, id)
  const job = await findJob(db, `${id}-evaluate`)
  if (!update || !job?.result) throw new Error('the candidate was not evaluated')
  expect((await jobsOf(id)).map((each) => each.id)).toContain(`${id}-parent`)
  const late = await evaluateStep.finish(testDeps(), update, [{ job, result: job.result }])
  expect(late).toBeUndefined()
  expect((await node.finish(id)).state).toBe('promoted')
})

describe('an update that the gate rejected', () => {
  const reason = 'The legal team accepts the loss until Monday'

  test('can be forced with a reason, which the decision keeps with the admin key', async () => {
    const node = await servingModel(
      'force',
      scoresByOrder({ 'force-old': [10, 12, 13.2], 'force-new': [10, 20, 12] }),
    )
    const { id } = await startUpdate('force', ['force-new'])
    expect((await node.finish(id)).state).toBe('failed')
    const short = await admin('POST', `/updates/${id}/force`, { reason: 'because' })
    expect([short.status, (await errorOf(short)).param]).toEqual([400, 'reason'])
    const sweep = (at: number | null) =>
      env.DB.prepare("update masks set swept_at = ? where model = 'force' and version = 4").bind(at).run()
    expect((await getUpdate(id)).forceable).toBe(true)
    await sweep(1)
    expect((await getUpdate(id)).forceable).toBe(false)
    const swept = await admin('POST', `/updates/${id}/force`, { reason })
    expect([swept.status, (await errorOf(swept)).message]).toEqual([
      409,
      expect.stringContaining('The file of mask m4'),
    ])
    await sweep(null)
    const forced = await adminJson<UpdateEntry>('POST', `/updates/${id}/force`, { reason })
    expect(forced).toMatchObject({ state: 'promoting', ended_in: null, error: null, finished_at: null })
    const end = await node.finish(id)
    expect(end).toMatchObject({ state: 'promoted', mask_version: 4 })
    expect(end.decisions?.find(({ kind }) => kind === 'force')).toMatchObject({
      verdict: 'done',
      reason,
      actor: expect.stringMatching(/^admin-[0-9a-f]{8}$/) as string,
      mask_version: 4,
    })
    const again = await admin('POST', `/updates/${id}/force`, { reason })
    expect([again.status, (await errorOf(again)).message]).toEqual([
      409,
      expect.stringContaining('is promoted'),
    ])
  })

  test('cannot be forced when a newer one was started, or when it failed for another reason', async () => {
    const node = await servingModel(
      'late',
      scoresByOrder({ 'late-old': [10, 12, 13.2], 'late-new': [10, 20, 12] }),
    )
    // Domains are of all models, and this file has more by now than an update evaluates by default.
    const effort = { max_holdouts: 256 }
    await adminJson('PUT', '/policy', { model: 'late', gate: { max_candidates: 1 }, effort })
    const { id } = await startUpdate('late', ['late-new'])
    await node.finish(id)
    const rejectedAt = (ms: number) =>
      env.DB.prepare('update updates set finished_at = ? where id = ?').bind(ms, id).run()
    await rejectedAt(Date.now() - FORCEABLE_MS)
    expect((await getUpdate(id)).forceable).toBe(false)
    const old = await admin('POST', `/updates/${id}/force`, { reason })
    expect([old.status, (await errorOf(old)).message]).toEqual([
      409,
      expect.stringContaining('was rejected more than 30 days ago'),
    ])
    await rejectedAt(Date.now())
    expect((await getUpdate(id)).forceable).toBe(true)
    const { id: newer } = await startUpdate('late', ['late-new'])
    expect((await getUpdate(id)).forceable).toBe(false)
    const late = await admin('POST', `/updates/${id}/force`, { reason })
    expect([late.status, (await errorOf(late)).message]).toEqual([
      409,
      expect.stringContaining(`'${newer}' is`),
    ])
    await adminJson('POST', `/updates/${newer}/cancel`)
    const cancelled = await admin('POST', `/updates/${newer}/force`, { reason })
    expect([cancelled.status, (await errorOf(cancelled)).message]).toEqual([
      409,
      expect.stringContaining('is cancelled. Only an update that the gate rejected'),
    ])
    expect((await admin('POST', '/updates/upd_none/force', { reason })).status).toBe(404)
  })
})
