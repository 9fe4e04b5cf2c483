import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'
import { createNodeTelemetry } from '../../../../gpu-node/src/serving/telemetry/node-telemetry.ts'
import { createArithmeticBackend } from '../../../support/doubles/arithmetic-backend.ts'
import { call, startTestNode, type TestNode } from '../../../support/processes/in-process-node.ts'
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

test('a rejected call ends its span with the error, and starts its own trace without a traceparent', async () => {
  node.spans.reset()
  await node.post('/rpc/completions', call({ ...REQUEST, model: 'other' }))
  const [span] = node.spans.getFinishedSpans()
  expect(span?.status.message).toMatch(/other/)
  expect(span?.events[0]?.name).toBe('exception')
  expect(span?.parentSpanContext).toBeUndefined()
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
  expect(value(/^copal_node_time_to_first_token_seconds_count (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_inter_token_latency_seconds_count (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_step_duration_seconds_count\{mask_version="2"\} (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_queue_duration_seconds_count (\d+)/m)).toBeGreaterThan(0)
  expect(value(/^copal_node_active_mask_version (\d+)/m)).toBe(2)
  expect(value(/^copal_node_kv_tokens_total (\d+)/m)).toBe(node.engine.policy.kvTokens)
  expect(value(/^copal_node_requests_waiting (\d+)/m)).toBe(0)
  // Every line must be a comment or a sample; a scraper rejects anything else.
  for (const line of text.trim().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) |[a-z_]+(\{[^}]*\})? [-+0-9.eInf]+$)/)
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

test('spans are exported to the OTLP collector when one is configured', async () => {
  const received: { path: string | undefined; body: string }[] = []
  const collector = createServer((request, response) => {
    let body = ''
    request.on('data', (data: Buffer) => (body += data.toString('latin1')))
    request.on('end', () => {
      received.push({ path: request.url, body })
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  onTestFinished(() => void collector.close())
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  const { port } = collector.address() as AddressInfo
  const telemetry = createNodeTelemetry({ nodeId: 'node-otlp', otlpEndpoint: `http://127.0.0.1:${port}/` })
  telemetry.tracing.tracer.startSpan('a span to export').end()
  await telemetry.shutdown()
  expect(received).toHaveLength(1)
  expect(received[0]?.path).toBe('/v1/traces')
  expect(received[0]?.body).toContain('a span to export')
  expect(received[0]?.body).toContain('node-otlp')
})
