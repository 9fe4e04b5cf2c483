import { env } from 'cloudflare:workers'
import { createExecutionContext, createMessageBatch } from 'cloudflare:test'
import { expect, test } from 'vitest'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { GATEWAY_METRICS } from '@copal/shared/telemetry/gateway-metric-table.ts'
import { prometheusName, type Metric } from '@copal/shared/telemetry/metric.ts'
import { createDeps } from '../../../../gateway/src/deps.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { raiseAlerts } from '../../../../gateway/src/storage/db/queries/alert-queries.ts'
import { COMPARISONS, figure } from '../../../../gateway/src/adaptation/gate/gate-figures.ts'
import { insertDecision } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { storeProbeScores } from '../../../../gateway/src/storage/db/queries/probe-queries.ts'
import { addMetricCounts } from '../../../../gateway/src/storage/db/queries/metric-count-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { exportMetrics } from '../../../../gateway/src/usage/metrics/export-metrics.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { createKey, get, receiptOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { seedUpdate } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
const table: (Metric & { perTenant?: true })[] = Object.values(GATEWAY_METRICS)
const namesOf = (metrics: readonly Metric[]) =>
  metrics.map((metric) => `${prometheusName(metric)} ${metric.type}`)

/** Returns the names and types of metrics in Prometheus' text format. */
function namesIn(text: string): string[] {
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`)
}

async function scrape(token?: string): Promise<string> {
  return (await get('/metrics', token)).text()
}

test('every documented metric of the gateway is at /metrics, and no other', async () => {
  expect(namesIn(await scrape())).toEqual(namesOf(table))
})

test('a key that reads metrics sees those of its tenant, with its name as a label', async () => {
  const { id, key } = await createKey({ tenant: 'scraped', scopes: ['read-metrics'] })
  await insertReceipts(db, 'n1', [receiptOf('scraped-1', { account: id })], 'node', Date.now())
  const text = await scrape(key)
  expect(namesIn(text)).toEqual(namesOf(table.filter(({ perTenant }) => perTenant)))
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  expect(samples.length).toBeGreaterThan(3)
  for (const sample of samples) expect(sample).toContain('{tenant="scraped"')
})

test('no service-wide metric names a tenant', async () => {
  const { id } = await createKey({ tenant: 'unnamed-tenant' })
  await insertReceipts(db, 'n1', [receiptOf('unnamed-1', { account: id })], 'node', Date.now())
  expect(await scrape()).not.toMatch(/tenant=|unnamed-tenant/)
})

test('a receipt is in the latencies and scoring outcomes once, under double delivery and after an estimate', async () => {
  const model = 'latency-model'
  const receipts = [
    receiptOf('latency-1', { model, totalMs: 30, timeToFirstTokenMs: 15, scoring: 'scored' }),
    receiptOf('latency-2', { model, totalMs: 90_000, timeToFirstTokenMs: null, scoring: 'budget' }),
  ]
  const [first] = receipts
  if (!first) throw new Error('there is no receipt')
  await insertReceipts(db, 'n1', [{ ...first, totalMs: 777, finishReason: 'error' }], 'estimate', 1)
  for (const batch of [receipts, receipts, receipts.toReversed()])
    await insertReceipts(db, 'n1', batch, 'node', 2)
  const lines = (await scrape()).split('\n').filter((line) => line.includes(`model="${model}"`))
  expect(lines).toEqual(
    expect.arrayContaining([
      `copal_request_duration_seconds_bucket{model="${model}",le="0.02"} 0`,
      `copal_request_duration_seconds_bucket{model="${model}",le="0.04"} 1`,
      `copal_request_duration_seconds_bucket{model="${model}",le="81.92"} 1`,
      `copal_request_duration_seconds_bucket{model="${model}",le="+Inf"} 2`,
      `copal_request_duration_seconds_sum{model="${model}"} 90.03`,
      `copal_request_duration_seconds_count{model="${model}"} 2`,
      `copal_request_time_to_first_token_seconds_count{model="${model}"} 1`,
      `copal_request_time_to_first_token_seconds_sum{model="${model}"} 0.015`,
      `copal_scoring_outcomes_total{model="${model}",outcome="scored"} 1`,
      `copal_scoring_outcomes_total{model="${model}",outcome="budget"} 1`,
    ]),
  )
})

test('errors are counted by code, also after an estimate; superseded attempts and rejected requests are not', async () => {
  const model = 'error-model'
  const failed = { model, finishReason: 'error' } as const
  const receipts = [
    receiptOf('error-1', { ...failed, errorCode: 'node_failed' }),
    receiptOf('error-2', { ...failed, errorCode: 'deadline_exceeded' }),
    receiptOf('error-3', { ...failed, errorCode: 'node_failed' }),
    receiptOf('error-4', failed),
    receiptOf('error-5', { model, finishReason: 'refused', errorCode: 'invalid_request' }),
    { ...receiptOf('error-6', { model, errorCode: 'node_failed' }), finishReason: 'superseded' as const },
  ]
  await insertReceipts(db, 'n1', [receiptOf('error-1', failed)], 'estimate', 1)
  for (let delivery = 0; delivery < 2; delivery += 1) await insertReceipts(db, 'n1', receipts, 'node', 2)
  const lines = (await scrape()).split('\n').filter((line) => line.startsWith('copal_request_errors_total{'))
  expect(lines.filter((line) => line.includes(`model="${model}"`)).toSorted()).toEqual([
    `copal_request_errors_total{model="${model}",code="deadline_exceeded"} 1`,
    `copal_request_errors_total{model="${model}",code="node_failed"} 2`,
    `copal_request_errors_total{model="${model}",code="unknown"} 1`,
  ])
})

test('domains that clients invent are counted together beyond the named ones, so that series have a bound', async () => {
  const model = 'invented-domains'
  const invented = Array.from({ length: 300 }, (_, index) =>
    receiptOf(`invented-${index}`, { model, domain: `invented-${index}` }),
  )
  for (let from = 0; from < invented.length; from += 100)
    await insertReceipts(db, 'n1', invented.slice(from, from + 100), 'node', Date.now())
  const counts = (await scrape())
    .split('\n')
    .filter((line) => line.startsWith(`copal_requests_total{model="${model}"`))
  expect(counts.length).toBeLessThanOrEqual(65)
  const total = counts.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  expect(total).toBe(300)
  expect(counts.some((line) => line.includes('domain="(other)"'))).toBe(true)
})

test('a domain keeps its series when a hundred others come, whatever their names are', async () => {
  const model = 'many-domains'
  const domains = Array.from({ length: 100 }, (_, index) => `many-${index}`)
  await ensureDomains(db, [...domains, 'a-later-one'], 1)
  const receipts = domains.map((domain, index) => receiptOf(`many-${index}`, { model, domain }))
  await insertReceipts(db, 'n1', receipts, 'node', Date.now())
  await insertReceipts(
    db,
    'n1',
    [receiptOf('many-later', { model, domain: 'a-later-one' })],
    'node',
    Date.now(),
  )
  const counts = (await scrape())
    .split('\n')
    .filter((line) => line.startsWith(`copal_requests_total{model="${model}"`))
  const shown = counts.map((line) => /domain="([^"]*)"/.exec(line)?.[1])
  expect(new Set(shown)).toEqual(new Set([...domains, '(other)']))
})

test('counts of samples and redactions add up over isolates', async () => {
  const counts = [
    { metric: 'redactions', labels: ['email'], value: 2 },
    { metric: 'redactions', labels: ['email'], value: 1 },
    { metric: 'samplerDecisions', labels: ['never-registered', 'offered'], value: 4 },
  ] as const
  const rows = counts.map((count) => ({ ...count, labels: [...count.labels] }))
  await Promise.all([addMetricCounts(db, rows), addMetricCounts(db, rows)])
  const lines = (await scrape()).split('\n')
  expect(lines).toContain('copal_redactions_total{class="email"} 6')
  expect(lines).toContain('copal_sampler_decisions_total{domain="(other)",decision="offered"} 8')
})

test('queued samples are counted by what became of them, with what was redacted before', async () => {
  const sample = { requestId: 'sampled-1', keyId: 'key', model: 'tiny', domain: 'sampled' }
  const body = { ...sample, redaction: 2, redactions: { iban: 3 }, text: 'a text with [iban]' }
  const message = { id: 'm1', timestamp: new Date(), attempts: 1, body }
  await consumeSamples(
    createDeps(env, createExecutionContext()),
    createMessageBatch('copal-samples', [message]),
  )
  // A domain has a series of its own once a receipt has named it.
  await insertReceipts(db, 'n1', [receiptOf('sampled-1', { domain: 'sampled' })], 'node', Date.now())
  const lines = (await scrape()).split('\n')
  expect(lines).toContain('copal_sampler_decisions_total{domain="sampled",decision="offered"} 1')
  expect(lines).toContain('copal_redactions_total{class="iban"} 3')
})

test('alerts that hold are counted by kind, and probe texts show which node does not match', async () => {
  const model = 'alerted'
  await sendHeartbeat({ id: 'alerted-1', url: 'http://127.0.0.1:9' }, model)
  const subject = { subject: 'legal', domain: 'legal', maskVersion: 0, nodeId: null }
  const alert = { model, ...subject, message: 'm', reference: 0, level: 1, raisedAt: 1 }
  await raiseAlerts(db, [
    { ...alert, id: 'alert-1', kind: 'gap_drift', endedAt: null },
    { ...alert, id: 'alert-2', kind: 'input_drift', endedAt: 2 },
  ])
  const probe = { model, maskVersion: 3, process: 'p', tokens: 10, firstNll: 2, measuredAt: Date.now() }
  await storeProbeScores(db, [
    { ...probe, nodeId: 'alerted-1', nll: 2, mismatches: 0 },
    { ...probe, nodeId: 'alerted-2', nll: 9, mismatches: 1 },
  ])
  const lines = (await scrape()).split('\n')
  for (const line of [
    `copal_alerts{model="${model}",kind="gap_drift"} 1`,
    `copal_alerts{model="${model}",kind="input_drift"} 0`,
    `copal_alerts{model="${model}",kind="probe_mismatch"} 0`,
    `copal_probe_nll_nats{node="alerted-2",model="${model}",mask_version="3"} 9`,
    `copal_probe_matches{node="alerted-1",model="${model}",mask_version="3"} 1`,
    `copal_probe_matches{node="alerted-2",model="${model}",mask_version="3"} 0`,
  ])
    expect(lines).toContain(line)
})

test('the cron task pushes the metrics to the collector of the metrics endpoint', async () => {
  const collector = await startNode('metrics-collector', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat({ id: 'pushed-1', url: 'http://127.0.0.1:9' }, 'pushed')
  const bindings = {
    ...env,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${collector.url}/otlp/v1/metrics`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-api-key=secret',
    OTEL_SERVICE_NAME: 'gateway-under-test',
  }
  await exportMetrics(createDeps(bindings, createExecutionContext()))
  const [call] = await collector.calls()
  expect(call?.path).toBe('/otlp/v1/metrics')
  expect(call?.headers['x-api-key']).toBe('secret')
  const { resourceMetrics } = JSON.parse(call?.body ?? '') as {
    resourceMetrics: { scopeMetrics: { metrics: { name: string; gauge?: { dataPoints: object[] } }[] }[] }[]
  }
  expect(JSON.stringify(resourceMetrics)).toContain('gateway-under-test')
  const metrics = resourceMetrics[0]?.scopeMetrics[0]?.metrics ?? []
  expect(metrics.find(({ name }) => name === 'copal.nodes_alive')?.gauge?.dataPoints).toContainEqual(
    expect.objectContaining({
      asDouble: 1,
      attributes: [{ key: 'model', value: { stringValue: 'pushed' } }],
    }),
  )
})

test('updates that failed in a row are those since the last promoted one, without cancelled ones and those of one domain', async () => {
  const states = {
    'row-failed': ['promoted', 'failed', 'cancelled', 'rolled_back', 'failed'],
    'row-promoted': ['failed', 'failed', 'failed', 'promoted'],
    'row-never': ['failed', 'failed', 'calibrating'],
  } as const
  for (const [model, own] of Object.entries(states)) {
    await sendHeartbeat({ id: `${model}-1`, url: 'http://127.0.0.1:9' }, model)
    for (const [index, state] of own.entries())
      await seedUpdate(model, index + 1, { state, finishedAt: state === 'calibrating' ? null : 1 })
  }
  await seedUpdate('row-promoted', 9, { state: 'failed', ownDomain: 'legal', finishedAt: 1 })
  const lines = (await scrape())
    .split('\n')
    .filter((line) => line.startsWith('copal_updates_failed_in_a_row{'))
  expect(lines.filter((line) => line.includes('"row-')).toSorted()).toEqual([
    'copal_updates_failed_in_a_row{model="row-failed"} 3',
    'copal_updates_failed_in_a_row{model="row-never"} 2',
    'copal_updates_failed_in_a_row{model="row-promoted"} 0',
  ])
})

test('the figures of the newest gate decision of each model are shown, and the progress of jobs of running updates alone', async () => {
  const ratio = (value: number): DecisionFigure =>
    figure('perplexity / parent', true, { domain: null, value, limit: 1.05 })
  const gate = { kind: 'gate', verdict: 'passed', reason: '', actor: 'copal', createdAt: 5 } as const
  for (const [model, ...values] of [
    ['gated-a', 1.2, 1.1],
    ['gated-b', 0.9],
  ] as const) {
    await sendHeartbeat({ id: `${model}-1`, url: 'http://127.0.0.1:9' }, model)
    for (const value of values)
      await insertDecision(db, { ...gate, model, maskVersion: 1, figures: [ratio(value)] })
    await insertDecision(db, { ...gate, kind: 'promote', model, maskVersion: 1, createdAt: 9 })
  }
  const running = await seedUpdate('gated-a', 2, { state: 'evaluating', finishedAt: null })
  const ended = await seedUpdate('gated-b', 2, { state: 'promoted', finishedAt: 1 })
  for (const [index, updateId] of [running, running, ended].entries())
    await env.DB.prepare(
      `insert into jobs (id, update_id, model, kind, payload, state, progress, created_at) values (?, ?, 'gated-a', 'evaluate', '{}', 'running', ?, 1)`,
    )
      .bind(`job-${index}`, updateId, index / 2)
      .run()
  const lines = (await scrape()).split('\n').filter((line) => line.includes('model="gated-'))
  const valuesOf = (name: string, label: string) =>
    lines
      .filter((line) => line.startsWith(name) && line.includes(label))
      .map((line) => line.split(' ').at(-1))
  expect(valuesOf('copal_gate_perplexity_ratio', 'bound="value"')).toEqual(['1.1', '0.9'])
  expect(valuesOf('copal_update_progress', 'kind="evaluate"')).toEqual(['0.25'])
})

test('every comparison of a gate is exported once: the weighted one, the general holdout, domains without traffic, small ones together', async () => {
  const model = 'gated-all'
  await sendHeartbeat({ id: `${model}-1`, url: 'http://127.0.0.1:9' }, model)
  const figures = [
    figure(COMPARISONS.purpose, true, { value: 0.98, upper: 0.99, limit: 1 }),
    figure(COMPARISONS.parent, true, { domain: 'no-traffic', value: 1.01, upper: 1.02, limit: 1.05 }),
    figure(COMPARISONS.parent, true, { domain: 'no-traffic', value: 1.01, limit: 1.2 }),
    figure(COMPARISONS.parent, true, { value: 1.03, note: 'together: a, b' }),
    figure(COMPARISONS.best, true, { domain: 'no-traffic', value: 1.04 }),
    figure(COMPARISONS.dense, true, { domain: '(general)', value: 1.2 }),
    figure(COMPARISONS.own, true, { domain: 'no-traffic', value: 0.9 }),
    figure('entropy', true, { value: 3 }),
  ]
  const gate = { kind: 'gate', verdict: 'passed', reason: '', actor: 'copal', createdAt: 5 } as const
  await insertDecision(db, { ...gate, model, maskVersion: 1, figures })
  const prefix = `copal_gate_perplexity_ratio{model="${model}",mask_version="1",`
  const lines = (await scrape()).split('\n').filter((line) => line.startsWith(prefix))
  expect(lines.map((line) => line.slice(prefix.length).replaceAll(/domain=|figure=|bound=|"/g, ''))).toEqual([
    '(all),parent_weighted,value} 0.98',
    '(all),parent_weighted,upper} 0.99',
    '(all),parent_weighted,limit} 1',
    'no-traffic,parent,value} 1.01',
    'no-traffic,parent,upper} 1.02',
    'no-traffic,parent,limit} 1.05',
    '(together),parent,value} 1.03',
    'no-traffic,best,value} 1.04',
    '(general),dense,value} 1.2',
    'no-traffic,shared,value} 0.9',
  ])
})
