import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace-node'
import { formatMetrics } from '../../../../shared/src/telemetry/exposition.ts'
import { prometheusName } from '../../../../shared/src/telemetry/metric.ts'
import { NODE_METRICS } from '../../../../shared/src/telemetry/node-metric-table.ts'
import { readOtelSettings } from '../../../../shared/src/telemetry/otel-settings.ts'
import { createLog, logInTrace } from '../../../../gpu-node/src/platform/log.ts'
import { createLogExport } from '../../../../gpu-node/src/serving/telemetry/log-export.ts'
import { createNodeMetrics } from '../../../../gpu-node/src/serving/telemetry/node-metrics.ts'
import { createNodeTelemetry } from '../../../../gpu-node/src/serving/telemetry/node-telemetry.ts'
import { createNodeTracing } from '../../../../gpu-node/src/serving/telemetry/node-tracing.ts'
import { createArithmeticBackend } from '../../../support/doubles/arithmetic-backend.ts'
import { call, startTestNode, type TestNode } from '../../../support/processes/in-process-node.ts'
import { startOtlpReceiver } from '../../../support/telemetry/otlp-receiver.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel
let node: TestNode
beforeAll(async () => {
  tiny = await openTinyModel()
  const backend = createArithmeticBackend({ vocabSize: tiny.model.config.vocabSize })
  node = await startTestNode({ backend, model: tiny.model })
  node.engine.setActive(backend.weights(2))
})
afterAll(async () => {
  await node.close()
  await tiny.remove()
})

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const REQUEST = { model: 'tiny', prompt: 'the cat sat', max_tokens: 5, seed: 1 }
const ms = ([seconds, nanoseconds]: ReadableSpan['startTime']) => seconds * 1000 + nanoseconds / 1e6

test("a streamed call's span continues the gateway's trace, has queue, prefill and decode below it, and ends with the stream", async () => {
  node.spans.reset()
  const response = await node.post(
    '/rpc/completions',
    call({ ...REQUEST, stream: true }, { requestId: 'request-traced' }),
    {
      headers: { traceparent: `00-${TRACE}-${PARENT}-01` },
    },
  )
  await response.text()
  const spans = node.spans.getFinishedSpans()
  const server = spans.find((span) => span.name === 'POST /rpc/completions')
  expect(server?.spanContext().traceId).toBe(TRACE)
  expect(server?.parentSpanContext?.spanId).toBe(PARENT)
  expect(server?.attributes).toMatchObject({
    'copal.request': 'request-traced',
    'copal.domain': 'legal',
    'copal.mask': 2,
    'gen_ai.usage.output_tokens': 5,
    'gen_ai.response.finish_reasons': ['length'],
  })
  expect(server?.resource.attributes).toMatchObject({
    'service.name': 'copal-node',
    'service.instance.id': 'node-under-test',
  })
  const phases = ['queue', 'prefill', 'decode'].map((name) => spans.find((span) => span.name === name))
  for (const span of phases) expect(span?.parentSpanContext?.spanId).toBe(server?.spanContext().spanId)
  const edges = phases.flatMap((span) => (span ? [ms(span.startTime), ms(span.endTime)] : []))
  expect(edges).toHaveLength(6)
  expect(edges).toEqual(edges.toSorted((a, b) => a - b))
})

test('a receipt names the span of its request, and none where the request is not sampled', async () => {
  node.spans.reset()
  const post = async (flags: string) => {
    const before = node.receipts.length
    const sent = call(REQUEST)
    const headers = { traceparent: `00-${TRACE}-${PARENT}-${flags}` }
    await (await node.post('/rpc/completions', sent, { headers })).text()
    return (await node.untilReceipts(before + 1)).at(-1)
  }
  const traced = await post('01')
  const server = node.spans.getFinishedSpans().find((span) => span.name === 'POST /rpc/completions')
  expect(traced?.traceparent).toBe(`00-${TRACE}-${server?.spanContext().spanId}-01`)
  node.spans.reset()
  expect((await post('00'))?.traceparent).toBeUndefined()
  expect(node.spans.getFinishedSpans()).toEqual([])
})

test('a rejected call ends its span with the code of the error, and without text of the client', async () => {
  node.spans.reset()
  await node.post('/rpc/completions', call({ ...REQUEST, model: 'other' }))
  const [span] = node.spans.getFinishedSpans()
  expect(span?.attributes).toMatchObject({
    'error.type': 'model_not_found',
    'http.response.status_code': 404,
  })
  expect(span?.status).toEqual({ code: 2 })
  expect(span?.parentSpanContext).toBeUndefined()
})

test('every documented metric of a node is at /metrics, and no other', async () => {
  const text = await (await fetch(`${node.url}/metrics`)).text()
  const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`)
  const documented = Object.values(NODE_METRICS).map((metric) => `${prometheusName(metric)} ${metric.type}`)
  expect(names.toSorted()).toEqual(documented.toSorted())
})

test('the counters that alerts compare with an earlier value begin with 0, not with the first failure', () => {
  const text = formatMetrics(createNodeMetrics({ model: 'tiny' }).collect(), 'prometheus')
  expect(text.split('\n').filter((line) => line.endsWith(' 0') && line.includes('{'))).toEqual([
    'copal_node_requests_total{outcome="error",code="node_failed"} 0',
    'copal_node_requests_total{outcome="error",code="invalid_output"} 0',
    'copal_node_weight_loads_total{outcome="failed"} 0',
    'copal_node_heartbeats_total{outcome="failed"} 0',
    'copal_node_heartbeats_total{outcome="answered"} 0',
  ])
})

test('metrics count requests by outcome, tokens, steps and load in the Prometheus text format', async () => {
  await (await node.post('/rpc/completions', call(REQUEST))).text()
  await (await node.post('/rpc/completions', call({ ...REQUEST, model: 'other' }))).text()
  const response = await fetch(`${node.url}/metrics`)
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  const text = await response.text()
  const value = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? Number.NaN)
  expect(value(/^copal_node_requests_total\{outcome="length"\} (\d+)/m)).toBeGreaterThan(0)
  expect(
    value(/^copal_node_requests_total\{outcome="refused",code="model_not_found"\} (\d+)/m),
  ).toBeGreaterThan(0)
  expect(value(/^copal_node_tokens_total\{kind="completion"\} (\d+)/m)).toBeGreaterThanOrEqual(5)
  expect(
    value(/^copal_node_step_tokens_total\{mask_version="2",phase="decode"\} (\d+)/m),
  ).toBeGreaterThanOrEqual(4)
  const genAi = 'gen_ai_operation_name="text_completion",gen_ai_provider_name="copal",gen_ai_request_model="'
  const counted = (name: string) => value(new RegExp(`^${name}_count\\{${genAi}[^"]*"\\} (\\d+)`, 'm'))
  expect(counted('gen_ai_server_request_duration_seconds')).toBeGreaterThan(0)
  expect(counted('gen_ai_server_time_to_first_token_seconds')).toBeGreaterThan(0)
  expect(counted('gen_ai_server_time_per_output_token_seconds')).toBeGreaterThan(0)
  expect(text).toMatch(
    /^gen_ai_server_request_duration_seconds_count\{.*error_type="model_not_found"\} \d+$/m,
  )
  expect(value(/^copal_node_inter_token_latency_seconds_count (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_step_duration_seconds_count\{mask_version="2"\} (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_step_batch_size_sum\{mask_version="2"\} (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_queue_duration_seconds_count (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_active_mask_version (\d+)/m)).toBe(2)
  expect(value(/^copal_node_kv_tokens (\d+)/m)).toBe(node.engine.policy.kvTokens)
  expect(value(/^copal_node_requests_waiting (\d+)/m)).toBe(0)
  expect(value(/^process_memory_usage_bytes (\d+)/m)).toBeGreaterThan(1e6)
  // Every line must be a comment or a sample; a scraper rejects anything else.
  for (const line of text.trim().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) |[a-z_]+(\{[^}]*\})? [-+0-9.eInf]+$)/)
})

test('the latency of a sampled request links to its trace for a scraper that asks for OpenMetrics', async () => {
  const headers = { traceparent: `00-${TRACE}-${PARENT}-01` }
  await (await node.post('/rpc/completions', call(REQUEST), { headers })).text()
  const response = await fetch(`${node.url}/metrics`, { headers: { accept: 'application/openmetrics-text' } })
  expect(response.headers.get('content-type')).toMatch(/^application\/openmetrics-text; version=1\.0\.0/)
  const text = await response.text()
  expect(text).toMatch(
    new RegExp(`^gen_ai_server_request_duration_seconds_bucket\\{.*\\} \\d+ # \\{trace_id="${TRACE}",`, 'm'),
  )
  expect(text.endsWith('# EOF\n')).toBe(true)
})

test('metrics report how much of the key/value cache later prompts can share, and how much of prompts was shared', async () => {
  const metric = async (name: string) => {
    const text = await (await fetch(`${node.url}/metrics`)).text()
    return Number(new RegExp(`^copal_node_${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0)
  }
  const before = await metric('kv_tokens_cached')
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const ask = () =>
    node.post('/rpc/completions', call({ ...REQUEST, prompt, max_tokens: 1 }, { tenant: 'metrics' }))
  await (await ask()).text()
  expect((await metric('kv_tokens_cached')) - before).toBe(64)
  expect(await metric('kv_tokens_used')).toBe(0)
  expect(await metric('prompt_tokens_cached_total')).toBe(0)
  await (await ask()).text()
  expect((await metric('kv_tokens_cached')) - before).toBe(64)
  expect(await metric('prompt_tokens_cached_total')).toBe(64)
})

test('spans, metrics and log lines reach an OTLP receiver under one resource, with the headers', async () => {
  const receiver = await startOtlpReceiver()
  onTestFinished(() => receiver.close())
  const otel = readOtelSettings(
    { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_EXPORTER_OTLP_HEADERS: 'x-key=secret' },
    { sampler: 'always_on', resource: { 'service.name': 'copal-node', 'service.instance.id': 'node-otlp' } },
  )
  const telemetry = createNodeTelemetry({ model: 'tiny', otel, tracing: createNodeTracing({ otel }) })
  const logs = createLogExport(otel)
  const log = createLog({ format: 'json', write: () => undefined, onRecord: (record) => logs?.add(record) })
  telemetry.tracing.tracer.startSpan('a span to export').end()
  telemetry.metrics.heartbeat('failed')
  logInTrace(log, { traceId: TRACE, spanId: PARENT }).warn('a line to export', { requestId: 'r-1' })
  await Promise.all([telemetry.shutdown(), logs?.shutdown()])

  expect(receiver.calls.map(({ path }) => path).toSorted()).toEqual(['/v1/logs', '/v1/metrics', '/v1/traces'])
  for (const { headers, body } of receiver.calls) {
    expect(headers['x-key']).toBe('secret')
    expect(JSON.stringify(body)).toContain('node-otlp')
  }
  expect(receiver.spans().map(({ name }) => name)).toEqual(['a span to export'])
  expect(receiver.metrics().find(({ name }) => name === 'copal.node.heartbeats')?.sum).toMatchObject({
    isMonotonic: true,
    dataPoints: [
      { asDouble: 1, attributes: [{ key: 'outcome', value: { stringValue: 'failed' } }] },
      { asDouble: 0, attributes: [{ key: 'outcome', value: { stringValue: 'answered' } }] },
    ],
  })
  expect(receiver.logs()).toMatchObject([
    { body: { stringValue: 'a line to export' }, severityText: 'WARN', traceId: TRACE, spanId: PARENT },
  ])
})

test('a share of the requests that no caller decided about is traced, as the ratio says', () => {
  const spans = new InMemorySpanExporter()
  const otel = readOtelSettings(
    { OTEL_TRACES_SAMPLER_ARG: '0.25' },
    { sampler: 'parentbased_traceidratio', resource: {} },
  )
  const tracing = createNodeTracing({ otel, processors: [new SimpleSpanProcessor(spans)] })
  const root = tracing.contextOf(new Headers())
  for (let index = 0; index < 2_000; index++) tracing.tracer.startSpan('root', {}, root).end()
  // 500 are expected; beyond these bounds are 6 standard deviations.
  expect(spans.getFinishedSpans().length).toBeGreaterThan(384)
  expect(spans.getFinishedSpans().length).toBeLessThan(616)
  spans.reset()
  const sampled = tracing.contextOf(new Headers({ traceparent: `00-${TRACE}-${PARENT}-01` }))
  for (let index = 0; index < 20; index++) tracing.tracer.startSpan('child', {}, sampled).end()
  expect(spans.getFinishedSpans()).toHaveLength(20)
})

test('a job is a span in the trace of its update, and its progress a metric while it runs', () => {
  const spans = new InMemorySpanExporter()
  const otel = readOtelSettings({}, { sampler: 'parentbased_always_on', resource: {} })
  const tracing = createNodeTracing({ otel, processors: [new SimpleSpanProcessor(spans)] })
  const telemetry = createNodeTelemetry({ model: 'tiny', otel, tracing })
  const samplesOf = (metric: object) =>
    telemetry.metrics.collect().find((family) => family.metric === metric)?.samples
  const job = telemetry.jobs.started({
    id: 'job-1',
    kind: 'calibrate',
    traceparent: `00-${TRACE}-${PARENT}-01`,
  })
  job.progress(0.5)
  expect(samplesOf(NODE_METRICS.jobProgress)).toEqual([{ labels: ['calibrate'], value: 0.5 }])
  job.ended('failed', 'node_failed')
  expect(samplesOf(NODE_METRICS.jobProgress)).toEqual([])
  expect(samplesOf(NODE_METRICS.jobs)).toEqual([{ labels: ['calibrate', 'failed'], value: 1 }])
  const [span] = spans.getFinishedSpans()
  expect(span?.name).toBe('job calibrate')
  expect(span?.parentSpanContext).toMatchObject({ traceId: TRACE, spanId: PARENT })
  expect(span?.attributes).toMatchObject({ 'copal.job.outcome': 'failed', 'error.type': 'node_failed' })
})
