import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from 'cloudflare:test'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { createCallBudget, isCallsUsedUp } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { collectMetrics } from '../../../../gateway/src/usage/metrics/collect-metrics.ts'
import { runTriggers } from '../../../../gateway/src/adaptation/triggers/run-triggers.ts'
import worker from '../../../../gateway/src/index.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { usageTotals } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { admin, testDeps } from '../../support/doubles/simulated-node.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { publishCounts } from '../../support/state/reservoir-state.ts'
import {
  AT_ONCE,
  forgetModels,
  importSegments,
  keepAlive,
  MINUTE,
  modelWithNode,
  reportOf,
  setPolicy,
  textOf,
  tick,
  triggerDecisions,
  updatesOf,
} from '../../support/state/due-updates.ts'

const db = openDatabase(env.DB)

// Each test has models of its own, but domains are of all models.
beforeEach(forgetModels)

/** Runs the tasks of a cron trigger; without one, all tasks. */
async function schedule(cron?: string): Promise<void> {
  await keepAlive()
  const ctx = createExecutionContext()
  await worker.scheduled(createScheduledController(cron === undefined ? {} : { cron }), env, ctx)
  await waitOnExecutionContext(ctx)
}

test('a domain with enough new text is updated by itself, by the cron trigger of every minute and the default policy', async () => {
  const node = await modelWithNode('auto')
  await importSegments('auto-a', 20)
  await schedule('* * * * *')
  const [started] = await updatesOf('auto')
  const reason = "'auto-a': 20 new segments, and 16 are enough."
  expect(started).toMatchObject({ domains: ['auto-a'], trigger: 'volume', trigger_reason: reason })
  const ended = await node.finish(started?.id ?? '')
  expect(ended.state).toBe('promoted')
  expect(ended.decisions?.map(({ kind, verdict, actor }) => [kind, verdict, actor])).toEqual([
    ['trigger', 'done', 'copal'],
    ['gate', 'passed', 'copal'],
    ['promote', 'done', 'copal'],
  ])
  expect(ended.decisions?.[0]).toMatchObject({
    reason: `Started by volume: ${reason}`,
    figures: [{ name: 'new segments', domain: 'auto-a', value: 20, limit: 16, passed: true }],
  })
  // Its texts are counted now.
  await tick(120)
  expect(await updatesOf('auto')).toHaveLength(1)
})

test('an update of more domains than the calls of a run are enough for waits for a run with more, and takes few itself', async () => {
  const model = 'wide'
  await modelWithNode(model)
  const domains = Array.from({ length: 8 }, (_, index) => `${model}-${index}`)
  for (const domain of domains) {
    await importSegments(domain, 16)
    await publishCounts(domain)
  }
  const run = async (calls: number) => {
    await keepAlive()
    const budget = createCallBudget(calls)
    // The first step of an update may use the rest.
    const thrown = await runTriggers(meterDeps(testDeps(), budget)).catch((error: unknown) => error)
    if (thrown !== undefined && !isCallsUsedUp(thrown)) throw thrown
    return calls - budget.left
  }
  // It asks none of the domains, because it could not ask all that the update takes.
  expect(await run(30)).toBeLessThan(20)
  expect(await updatesOf(model)).toEqual([])
  // Each domain is asked once, and not again when the update is stored.
  await run(60)
  expect(await updatesOf(model)).toMatchObject([
    { trigger: 'volume', domains: expect.arrayContaining(domains) },
  ])
})

test('the heavy tasks do not run every minute, and the triggers not with the heavy ones', async () => {
  await modelWithNode('cron')
  await importSegments('cron-a', 20)
  await schedule('*/5 * * * *')
  expect(await updatesOf('cron')).toEqual([])
  await schedule()
  expect(await updatesOf('cron')).toHaveLength(1)
})

/** Returns the number of domains of a model whose update is due and does not start, as `/metrics` has it. */
async function waitingDomains(model: string): Promise<number | undefined> {
  const families = await collectMetrics(testDeps())
  const { samples = [] } = families.find(({ metric }) => metric.name === 'copal.updates.due') ?? {}
  return samples.flatMap((sample) => ('value' in sample && sample.labels[0] === model ? sample.value : []))[0]
}

test('domains whose update is due and does not start are counted, whatever the reason is, until it starts', async () => {
  const model = 'waiting'
  const node = await modelWithNode(model)
  await tick()
  expect(await waitingDomains(model)).toBe(0)
  for (const name of ['a', 'b']) {
    await importSegments(`waiting-${name}`, 20)
    await publishCounts(`waiting-${name}`)
  }
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const runWith = async (methods: string[]) => {
    await testDeps().fleet.heartbeat(node.heartbeat({ methods }), 0)
    await runTriggers(testDeps())
    return waitingDomains(model)
  }
  expect(await runWith([])).toBe(2)
  expect(error).toHaveBeenCalled()
  await setPolicy(model, {}, { canary: { enabled: true } })
  await env.DB.exec(
    `UPDATE models SET canary = '{"version":1,"beside":0,"share":0.1,"sinceMs":1}' WHERE id = '${model}'`,
  )
  expect(await runWith(['continual-wanda'])).toBe(2)
  await env.DB.exec(`UPDATE models SET canary = NULL WHERE id = '${model}'`)
  await setPolicy(model, { enabled: false })
  expect(await runWith([])).toBe(0)
  await setPolicy(model, { enabled: true })
  await tick()
  expect(await waitingDomains(model)).toBe(0)
  expect(await updatesOf(model)).toHaveLength(1)
})

test('with one place each fourth update is for the domain that waits longest, however many updates there were', async () => {
  await modelWithNode('turns')
  await importSegments('turns-much', 40)
  await importSegments('turns-less', 20)
  await setPolicy('turns', { ...AT_ONCE, max_domains: 1 })
  await env.DB.exec(
    'INSERT INTO updates (id, model, domains, method, pattern, scope, samples, length, seed, state, created_at, finished_at) ' +
      'WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 503) ' +
      `SELECT 'turns-' || n, 'turns', '["turns-much"]', 'magnitude', '0.5', 'row', 2, 64, 0, 'promoted', n, n FROM numbers`,
  )
  await tick()
  expect((await updatesOf('turns'))[0]?.domains).toEqual(['turns-less'])
})

test('several due domains become one update, and the next one waits for the cool-down', async () => {
  const node = await modelWithNode('merge')
  for (const name of ['a', 'b', 'c']) await importSegments(`merge-${name}`, 16)
  await setPolicy('merge', { max_domains: 2, cooldown_minutes: 60 })
  // Traffic of one of them.
  const counts = {
    requests: 1,
    completionTokens: 0,
    driftRequests: 0,
    driftTokens: 0,
    nllMasked: 0,
    nllDense: 0,
  }
  const usage = { tenant: '', model: 'merge', maskVersion: 0, finishReason: 'stop' as const, ...counts }
  await db.insert(usageTotals).values([
    { ...usage, domain: 'merge-a', promptTokens: 10 },
    { ...usage, domain: 'merge-b', promptTokens: 900 },
    { ...usage, domain: 'merge-c', promptTokens: 20 },
  ])
  await Promise.all([tick(), tick(), tick()])
  const [first, ...others] = await updatesOf('merge')
  expect(others).toEqual([])
  expect(await triggerDecisions('merge')).toHaveLength(1)
  expect(first?.domains[0]).toBe('merge-b')
  expect(first?.domains).toHaveLength(2)
  expect(await reportOf('merge')).toMatchObject({
    running: { id: first?.id, trigger: 'volume', domains: first?.domains },
    waits_for: expect.stringMatching(
      new RegExp(`^update ${first?.id} is (collecting|calibrating)$`),
    ) as string,
    next_start_at: null,
    started_today: 1,
  })
  expect((await node.finish(first?.id ?? '')).state).toBe('promoted')
  await tick(58)
  expect(await updatesOf('merge')).toHaveLength(1)
  await tick(61)
  const [second] = await updatesOf('merge')
  expect([...(first?.domains ?? []), ...(second?.domains ?? [])].toSorted()).toEqual([
    'merge-a',
    'merge-b',
    'merge-c',
  ])
})

test('updates that ended ahead of the clock, which was set back since, hold up none', async () => {
  const node = await modelWithNode('clock')
  await importSegments('clock-a', 20)
  await setPolicy('clock', { cooldown_minutes: 60, max_per_day: 1 })
  await tick()
  const [first] = await updatesOf('clock')
  await node.finish(first?.id ?? '')
  await importSegments('clock-a', 20, 'more of clock')
  const day = 24 * 60 * MINUTE
  await env.DB.exec(
    `UPDATE updates SET created_at = created_at + ${day}, finished_at = finished_at + ${day} WHERE model = 'clock'`,
  )
  await tick()
  expect(await updatesOf('clock')).toHaveLength(2)
})

describe('a dry run', () => {
  test('starts nothing, and says once what would have started and why', async () => {
    await modelWithNode('dry')
    await importSegments('dry-a', 16)
    await setPolicy('dry', { ...AT_ONCE, dry_run: true })
    for (const minutes of [0, 1, 2, 60]) await tick(minutes)
    expect(await updatesOf('dry')).toEqual([])
    expect(await triggerDecisions('dry')).toMatchObject([
      {
        verdict: 'dry_run',
        updateId: null,
        actor: 'copal',
        reason: "Would have started by volume: 'dry-a': 16 new segments, and 16 are enough.",
      },
    ])
    expect(await reportOf('dry')).toMatchObject({ dry_run: true, next_domains: ['dry-a'] })
    // Another domain is another decision.
    await importSegments('dry-b', 16)
    for (const minutes of [61, 62]) await tick(minutes)
    expect(await triggerDecisions('dry')).toHaveLength(2)
    await setPolicy('dry', AT_ONCE)
    await tick(63)
    expect((await updatesOf('dry'))[0]?.domains.toSorted()).toEqual(['dry-a', 'dry-b'])
  })
})

describe('nothing starts', () => {
  test.each([
    ['while triggers are off', { enabled: false }, /triggers are off/],
    ['in quiet hours', { quiet_hours: quietNow() }, /are quiet hours/],
  ])('%s', async (name, triggers, reason) => {
    const model = `still-${name.length}`
    await modelWithNode(model)
    await importSegments(`${model}-a`, 16)
    await setPolicy(model, triggers)
    await tick()
    expect(await updatesOf(model)).toEqual([])
    expect(await reportOf(model)).toMatchObject({
      waits_for: expect.stringMatching(reason),
      next_domains: [`${model}-a`],
    })
  })

  test('while no node of the model is alive', async () => {
    await modelWithNode('dead')
    await importSegments('dead-a', 16)
    const fleet = { offeredMethods: () => Promise.resolve(null) }
    await runTriggers(testDeps({ fleet: fleet as never }))
    expect(await updatesOf('dead')).toEqual([])
    await tick()
    expect(await updatesOf('dead')).toHaveLength(1)
  })

  test('of a domain without enough held-out text, and the report says how much is missing', async () => {
    await modelWithNode('held')
    await ensureDomains(db, ['held-a'], 0)
    const texts = Array.from({ length: 40 }, (_, index) =>
      offeredSample(textOf(`held ${index}`), { side: 'pool', atMs: Date.now() }),
    )
    await testDeps().reservoir('held-a').offer(texts)
    await tick()
    expect(await updatesOf('held')).toEqual([])
    expect((await reportOf('held')).domains).toMatchObject([
      {
        domain: 'held-a',
        due: null,
        missing_holdout_tokens: 80,
        reason: expect.stringContaining('80 tokens of held-out'),
      },
    ])
  })
})

test('after failed updates a domain is not tried again every minute, but after twice the time each time', async () => {
  await modelWithNode('failing')
  await importSegments('failing-a', 16)
  await setPolicy('failing', AT_ONCE)
  const starts: number[] = []
  for (let minutes = 0; minutes < 200; minutes += 5) {
    const before = (await updatesOf('failing')).length
    await tick(minutes)
    const updates = await updatesOf('failing')
    if (updates.length === before) continue
    starts.push(minutes)
    const failed = `state = 'failed', error_code = 'node_failed', error_message = 'broken'`
    await env.DB.exec(
      `UPDATE updates SET ${failed}, finished_at = created_at, revision = revision + 1 WHERE finished_at IS NULL`,
    )
    await testDeps()
      .reservoir('failing-a')
      .release('failing', [updates[0]?.id ?? ''])
  }
  expect(starts).toEqual([0, 15, 45, 105])
  const [domain] = (await reportOf('failing')).domains
  expect(domain).toMatchObject({ failures: 4, due: null, not_before: expect.any(String) })
})

test('a task that fails for one model goes on with the others', async () => {
  await modelWithNode('broken')
  await modelWithNode('whole')
  await importSegments('whole-a', 16)
  await env.DB.exec(`INSERT INTO policies VALUES ('broken', '{"triggers":{"quiet_hours":7}}', 0)`)
  const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => logged.mockRestore())
  await tick()
  expect(logged.mock.calls[0]?.[0]).toContain("The triggers of model 'broken' failed")
  expect(await updatesOf('whole')).toHaveLength(1)
})

test('50 domains are planned in one tick', async () => {
  const names = Array.from({ length: 50 }, (_, index) => `fifty-${String(index).padStart(2, '0')}`)
  for (const name of names) await importSegments(name, 16)
  await modelWithNode('fifty')
  const report = await reportOf('fifty')
  expect(report.domains.filter(({ due }) => due === 'volume')).toHaveLength(50)
  expect(report.next_domains).toHaveLength(8)
  await tick()
  expect((await updatesOf('fifty'))[0]?.domains).toHaveLength(8)
})

test('the report is for operators only', async () => {
  expect((await admin('GET', '/triggers', undefined, 'sk-copal-of-nobody')).status).toBe(401)
})

/** Quiet hours around now, however late it is. */
function quietNow(): string {
  const at = (minutes: number) => new Date(Date.now() + minutes * MINUTE).toISOString().slice(11, 16)
  return `${at(-60)}-${at(60)}`
}
