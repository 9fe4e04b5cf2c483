/** Tests what the admin API shows of traffic and drift over time, against what is computed from the same receipts. */
import { env } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { beforeAll, expect, test } from 'vitest'
import { seriesReport as seriesSchema } from '@copal/shared/wire/admin-series.ts'
import { createAlert } from '../../../../gateway/src/adaptation/drift/alerts/alert-subject.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { trafficPeriods } from '../../../../gateway/src/storage/db/schema/periods.ts'
import { raiseAlerts } from '../../../../gateway/src/storage/db/queries/alert-queries.ts'
import { insertDecision } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import {
  insertReceipts,
  type StoredReceipt,
} from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { NAMED_DOMAINS } from '../../../../gateway/src/storage/db/queries/usage-total-queries.ts'
import { domainSummaries, domainSummary } from '../../../../gateway/src/usage/series/domain-summaries.ts'
import { recentTraffic } from '../../../../gateway/src/usage/series/recent-traffic.ts'
import { gapsReport, seriesReport } from '../../../../gateway/src/usage/series/series-report.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { errorOf, receiptOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'

const MODEL = 'series'
const NOW_MS = Date.UTC(2026, 10, 28, 19, 31, 20)
const MINUTE_MS = 60_000
const db = openDatabase(env.DB)
const deps = testDeps({ nowMs: () => NOW_MS })
const iso = (timeMs: number) => new Date(timeMs).toISOString()

const GAPS = [0.1, 0.2, 0.3, 0.2, 0.1, 0.15]
let requests = 0
const settle = (agoMs: number, changes: Partial<StoredReceipt>) =>
  insertReceipts(
    db,
    'node-1',
    [{ ...receiptOf(`series-${(requests += 1)}`, { model: MODEL }), ...changes }],
    'node',
    NOW_MS - agoMs,
  )

beforeAll(async () => {
  await sendHeartbeat({ id: 'node-1', url: 'http://127.0.0.1:9' }, MODEL)
  for (const gap of GAPS)
    await settle(90 * MINUTE_MS, {
      domain: 'legal',
      maskVersion: 3,
      drift: { tokens: 10, nllMasked: 10 * (2 + gap), nllDense: 20 },
      scoring: 'scored',
    })
  await settle(30 * MINUTE_MS, { domain: 'legal', maskVersion: 4, scoring: 'evicted' })
  await settle(70_000, { domain: 'support', finishReason: 'error', timeToFirstTokenMs: null })
  for (const timeToFirstTokenMs of [3, 30, 30, 30])
    await settle(10_000, { domain: 'support', timeToFirstTokenMs, scoring: 'budget' })
})

test('a series has the requests, quantiles, means and intervals of each domain and mask', async () => {
  const query = {
    from: iso(NOW_MS - 4 * 60 * MINUTE_MS),
    to: iso(NOW_MS),
    width: undefined,
    domain: undefined,
  }
  const report = await seriesReport(deps, MODEL, query)
  expect(report).toMatchObject({ model: MODEL, width: 60 })
  expect(report.starts.length).toBe(4 * 60 + 1)
  const [old, current, support] = report.series
  expect(report.series.map((each) => [each.domain, each.mask_version])).toEqual([
    ['legal', 3],
    ['legal', 4],
    ['support', 0],
  ])
  const startOf = (series: typeof old) => report.starts[series?.periods[0] ?? -1]
  expect(startOf(old)).toBe(Math.floor((NOW_MS - 90 * MINUTE_MS) / MINUTE_MS) * 60)
  const mean = GAPS.reduce((sum, gap) => sum + gap, 0) / GAPS.length
  const error = Math.sqrt(GAPS.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / 5 / 6)
  expect(old).toMatchObject({
    requests: [6],
    scored_requests: [6],
    scored_tokens: [60],
    completion_tokens: [30],
  })
  expect(old?.gap.mean[0]).toBeCloseTo(mean, 6)
  expect(old?.gap.lower[0]).toBeCloseTo(mean - 2.570582 * error, 5)
  expect(old?.gap.upper[0]).toBeCloseTo(mean + 2.570582 * error, 5)
  expect(old?.dense).toEqual({ mean: [2], lower: [2], upper: [2] })
  expect(old?.pruned.mean[0]).toBeCloseTo(2 + mean, 6)
  expect(current).toMatchObject({
    gap: { mean: [null], lower: [null] },
    not_scored: { evicted: [1], budget: [0] },
  })
  expect(support).toMatchObject({
    requests: [1, 4],
    failed: [1, 0],
    first_token_ms: { p50: [null, expect.any(Number)] },
  })
  expect(support?.first_token_ms.p95[1]).toBeGreaterThan(20)
  expect(support?.first_token_ms.p95[1]).toBeLessThanOrEqual(40)
  const wide = await seriesReport(deps, MODEL, { ...query, width: 86_400, domain: 'support' })
  expect(wide.series).toMatchObject([{ domain: 'support', requests: [5], failed: [1] }])
})

test('the gaps of all domains are those of the masks under which most was scored, by tokens', async () => {
  const scored = (domain: string, maskVersion: number, gap: number) =>
    settle(200 * MINUTE_MS, {
      domain,
      maskVersion,
      drift: { tokens: 10, nllMasked: 10 * (2 + gap), nllDense: 20 },
      scoring: 'scored',
    })
  for (const gap of [0.3, 0.5]) await scored('poems', 7, gap)
  for (const version of [6, 6, 6, 8, 8, 8]) await scored('poems', version, version / 10)
  const query = { from: iso(NOW_MS - 4 * 60 * MINUTE_MS), to: iso(NOW_MS), width: undefined }
  const report = await gapsReport(deps, MODEL, query)
  const whole = await seriesReport(deps, MODEL, { ...query, domain: undefined })
  expect({ ...report, domains: [] }).toEqual({ ...whole, series: undefined, domains: [] })
  expect(report.domains.map(({ domain, tokens }) => [domain, tokens])).toEqual([
    ['poems', 120],
    ['legal', 105],
    ['support', 75],
  ])
  const known = report.domains.map(({ gap }) =>
    gap.flatMap((value, index) => (value === null ? [] : [[report.starts[index], value]])),
  )
  const minute = (ago: number) => Math.floor((NOW_MS - ago * MINUTE_MS) / MINUTE_MS) * 60
  // Three requests each were scored under m6 and m8.
  expect(known).toEqual([[[minute(200), 0.6]], [[minute(90), 0.175]], []])
  expect(report.domains[0]?.gap).toHaveLength(report.starts.length)
  await db.delete(trafficPeriods).where(eq(trafficPeriods.domain, 'poems'))
})

test('marks say what was decided and found in the time, for the domain', async () => {
  const decide = (agoMs: number, changes: object) =>
    insertDecision(db, {
      model: MODEL,
      kind: 'promote',
      verdict: 'done',
      reason: 'The canary passed.',
      maskVersion: 4,
      actor: 'copal',
      createdAt: NOW_MS - agoMs,
      ...changes,
    })
  await decide(40 * MINUTE_MS, {})
  await decide(20 * MINUTE_MS, { kind: 'roll_back', reason: 'It failed.' })
  await decide(50 * MINUTE_MS, { kind: 'gate', verdict: 'failed', reason: 'It lost.' })
  await decide(51 * MINUTE_MS, { kind: 'gate', verdict: 'passed' })
  await decide(48 * 60 * MINUTE_MS, {})
  const alert = { model: MODEL, domain: 'legal', maskVersion: 4, reference: 0.1, level: 0.9 }
  await raiseAlerts(db, [
    createAlert({ kind: 'gap_drift', message: 'Pruning costs more.', ...alert }, NOW_MS - 10 * MINUTE_MS),
  ])
  const query = { from: undefined, to: iso(NOW_MS), width: undefined }
  const { marks } = await seriesReport(deps, MODEL, { ...query, domain: undefined })
  expect(marks.map(({ kind, text }) => [kind, text])).toEqual([
    ['gate_failed', 'The gate rejected m4: It lost.'],
    ['promoted', 'm4 became active: The canary passed.'],
    ['rolled_back', 'm4 was rolled back: It failed.'],
    ['alert', 'Pruning costs more.'],
  ])
  const ofSupport = await seriesReport(deps, MODEL, { ...query, domain: 'support' })
  expect(ofSupport.marks.map(({ kind }) => kind)).toEqual(['gate_failed', 'promoted', 'rolled_back'])
})

test('the overview has the rates of now, the trend of an hour, and the domains of a day', async () => {
  const traffic = await recentTraffic(deps, MODEL)
  expect(traffic.requestsPerSecond).toBeCloseTo(5 / 80, 9)
  expect(traffic.tokensPerSecond).toBeCloseTo(75 / 80, 9)
  expect(traffic.failedShare).toBeCloseTo(1 / 5, 9)
  expect(traffic.firstTokenMsP95).toBeLessThanOrEqual(40)
  expect(traffic.tokensTrend).toHaveLength(60)
  expect(traffic.tokensTrend.slice(-2)).toEqual([15, 60])
  expect(traffic.tokensTrend.reduce((sum, tokens) => sum + tokens, 0)).toBe(90)
  const model = { id: MODEL, activeVersion: 0, domainVersions: new Map([['legal', 3]]) }
  const [legal, support, ...others] = await domainSummaries(deps, model, new Set(['support']))
  expect(others).toEqual([])
  expect(legal).toMatchObject({ name: 'legal', requests: 7, traffic_share: 7 / 12, drifting: false })
  expect(legal?.gap?.mean).toBeCloseTo(0.175, 9)
  expect(legal?.gap_trend.filter((gap) => gap !== null)).toEqual([expect.closeTo(0.175, 9)])
  expect(support).toMatchObject({ name: 'support', requests: 5, gap: null, drifting: true })
  expect([legal?.mask_version, support?.mask_version]).toEqual([3, 0])
  expect([legal?.not_scored, support?.not_scored]).toEqual([null, 'budget'])
  expect([legal?.scored_requests, support?.scored_requests]).toEqual([6, 0])
  // Each alone is as in the list.
  expect(await domainSummary(deps, model, 'legal', new Set())).toEqual(legal)
  expect(await domainSummary(deps, model, 'support', new Set(['support']))).toEqual(support)
  expect(await domainSummary(deps, model, 'unheard', new Set())).toMatchObject({
    requests: 0,
    traffic_share: 0,
  })
})

test('the route validates its query, and finds the only model', async () => {
  const report = await adminJson<{ width: number; starts: number[] }>('GET', '/series?width=3600')
  expect(report.width).toBe(3600)
  expect(report.starts.length).toBeGreaterThanOrEqual(24)
  for (const query of [
    'width=61',
    'from=yesterday',
    'from=2026-11-28T19:00:00Z&to=2026-11-28T18:00:00Z',
    'domain=',
  ])
    expect((await admin('GET', `/series?${query}`)).status).toBe(400)
  expect((await admin('GET', '/series?model=unknown')).status).toBe(404)
  const time = `from=${iso(NOW_MS - 4 * 60 * MINUTE_MS)}&to=${iso(NOW_MS)}`
  const gaps = await adminJson<{ domains: { domain: string }[] }>('GET', `/series/gaps?${time}`)
  expect(gaps.domains.map(({ domain }) => domain)).toEqual(['legal', 'support'])
  expect((await admin('GET', '/series/gaps?width=61')).status).toBe(400)
})

test('domains that are not counted by name have a series and a summary together', async () => {
  const nowMs = Date.now()
  for (let index = 0; index < NAMED_DOMAINS + 3; index += 1)
    await insertReceipts(
      db,
      'node-1',
      [receiptOf(`crowd-${index}`, { model: MODEL, domain: `crowd-${String(index).padStart(2, '0')}` })],
      'node',
      nowMs,
    )
  const name = encodeURIComponent('(other)')
  const { series } = seriesSchema.parse(await adminJson('GET', `/series?domain=${name}`))
  expect(series).toMatchObject([{ domain: '(other)', requests: [expect.any(Number)] }])
  const counted = series[0]?.requests[0] ?? 0
  expect(counted).toBeGreaterThanOrEqual(3)
  expect(await adminJson('GET', `/domains/${name}/traffic`)).toMatchObject({
    name: '(other)',
    requests: counted,
  })
  const unknown = await admin('GET', `/series?domain=${encodeURIComponent('(others)')}`)
  expect(await errorOf(unknown)).toMatchObject({
    code: 'invalid_request',
    param: 'domain',
    message: expect.stringContaining('expected a domain name of lower-case letters'),
  })
})
