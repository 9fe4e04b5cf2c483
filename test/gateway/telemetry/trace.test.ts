import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { createTracing } from '../../../gateway/src/telemetry/trace.ts'
import { readOtelSettings, type OtelVariables } from '../../../shared/src/telemetry/otel-settings.ts'
import { sendHeartbeat, createKey, ORIGIN, until } from '../support/requests/gateway-requests.ts'
import { startNode } from '../support/doubles/node-double.ts'
import { stopClock } from '../support/doubles/stopped-clock.ts'

interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: { key: string; value: { stringValue?: string; intValue?: number; boolValue?: boolean } }[]
  status: { code: number }
}
interface OtlpRequest {
  resourceSpans: { resource: { attributes: OtlpSpan['attributes'] }; scopeSpans: { spans: OtlpSpan[] }[] }[]
}

const TRACE = '0af7651916cd43dd8448eb211c80319c'

function stream(key: string, model: string): Request {
  return new Request(`${ORIGIN}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, traceparent: `00-${TRACE}-b7ad6b7169203331-01` },
    body: JSON.stringify({ model, prompt: 'a private prompt', stream: true }),
  })
}

test('a trace spans client, gateway and node, and its generation span lasts as long as the stream', async () => {
  const collector = await startNode('collector-1', [{ kind: 'answer', body: '{}' }])
  const node = await startNode('traced-1', [
    { kind: 'stream', chunks: ['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n'], pauseMs: 100, ending: 'end' },
  ])
  await sendHeartbeat(node, 'traced')
  const { key } = await createKey()
  const ctx = createExecutionContext()
  const response = await createApp().request(
    stream(key, 'traced'),
    {},
    { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/` },
    ctx,
  )
  expect(await collector.calls()).toEqual([])
  await response.text()
  await waitOnExecutionContext(ctx)
  const [exported] = await until('the export', async () =>
    (await collector.calls()).length > 0 ? collector.calls() : undefined,
  )
  expect(exported?.path).toBe('/v1/traces')
  const { resourceSpans } = JSON.parse(exported?.body ?? '') as OtlpRequest
  expect(resourceSpans[0]?.resource.attributes).toContainEqual({
    key: 'service.name',
    value: { stringValue: 'copal-gateway' },
  })
  const spans = resourceSpans[0]?.scopeSpans[0]?.spans ?? []
  const server = spans.find(({ kind }) => kind === 2)
  const generation = spans.find(({ name }) => name === 'text_completion traced')
  const lease = spans.find(({ name }) => name === 'lease')
  if (!server || !generation || !lease) throw new Error(`unexpected spans: ${JSON.stringify(spans)}`)
  expect(server).toMatchObject({
    name: 'POST /v1/completions',
    traceId: TRACE,
    parentSpanId: 'b7ad6b7169203331',
  })
  expect(server.attributes).toContainEqual({ key: 'http.response.status_code', value: { intValue: 200 } })
  expect(generation).toMatchObject({ kind: 3, traceId: TRACE, parentSpanId: server.spanId })
  expect(lease).toMatchObject({ kind: 1, traceId: TRACE, parentSpanId: generation.spanId })
  expect(lease.attributes).toContainEqual({
    key: 'copal.lease.outcome',
    value: { stringValue: 'leased' },
  })
  expect(generation.attributes).toContainEqual({
    key: 'gen_ai.operation.name',
    value: { stringValue: 'text_completion' },
  })
  expect(JSON.stringify(spans)).not.toContain('a private prompt')
  expect(generation.attributes).toContainEqual({ key: 'copal.node', value: { stringValue: 'traced-1' } })
  expect(generation.attributes).toContainEqual({
    key: 'copal.stream_end',
    value: { stringValue: 'complete' },
  })
  expect(BigInt(generation.endTimeUnixNano)).toBeGreaterThan(BigInt(server.endTimeUnixNano))
  const [call] = await node.calls()
  expect(call?.headers.traceparent).toBe(`00-${TRACE}-${generation.spanId}-01`)
})

test('spans that end within the batching delay are sent to the collector together', async () => {
  const collector = await startNode('collector-3', [{ kind: 'answer', body: '{}' }])
  const app = createApp()
  const ctx = createExecutionContext()
  const bindings = { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  // The first request of an app is slow; it is sent without a collector.
  await app.request('/health', {}, { ...env }, ctx)
  // The delay ends after the last request, however long they take.
  stopClock()
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  await Promise.all(Array.from({ length: 5 }, async () => app.request('/health', {}, bindings, ctx)))
  vi.runAllTimers()
  vi.useRealTimers()
  await waitOnExecutionContext(ctx)
  const [exported, ...others] = await collector.calls()
  expect(others).toEqual([])
  const { resourceSpans } = JSON.parse(exported?.body ?? '') as OtlpRequest
  expect(resourceSpans[0]?.scopeSpans[0]?.spans).toHaveLength(5)

  const later = createExecutionContext()
  await app.request('/health', {}, bindings, later)
  await waitOnExecutionContext(later)
  expect(await collector.calls()).toHaveLength(2)
})

test('an unreachable collector causes a warning in the log and fails no request', async () => {
  const collector = await startNode('collector-2', [{ kind: 'drop' }])
  await collector.kill()
  const log = vi.spyOn(console, 'warn').mockImplementation(() => {})
  const ctx = createExecutionContext()
  const response = await createApp().request(
    '/health',
    {},
    { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
    ctx,
  )
  expect(response.status).toBe(200)
  await waitOnExecutionContext(ctx)
  expect(log.mock.calls.flat().join(' ')).toContain('1 spans are lost')
  log.mockRestore()
})

/** Begins the trace of a request that names an own trace, with the given flags. */
function begin(variables: OtelVariables, flags?: string) {
  const ended: string[] = []
  const settings = readOtelSettings(
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', ...variables },
    { sampler: 'always_on', resource: {} },
  )
  const headers = new Headers(flags ? { traceparent: `00-${TRACE}-b7ad6b7169203331-${flags}` } : {})
  const trace = createTracing(settings).begin('GET /', headers, (spans) =>
    ended.push(...spans.map(({ name }) => name)),
  )
  const call = trace.startCall('chat', {})
  const part = trace.startPart('lease', call, {})
  part.end()
  const sent = trace.headers(call)['traceparent']
  call.end()
  trace.span.end()
  return { ended, sent }
}

test('a client whose trace is not sampled cannot hide its request', () => {
  const { ended, sent } = begin({}, '00')
  expect(sent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`))
  expect(ended).toEqual(['lease', 'chat', 'GET /'])
})

test('the standard variables let the caller decide, and a request that is not sampled makes no span anywhere', () => {
  expect(begin({ OTEL_TRACES_SAMPLER: 'parentbased_always_off' }, '01').ended).toHaveLength(3)
  const { ended, sent } = begin({ OTEL_TRACES_SAMPLER: 'parentbased_always_on' }, '00')
  expect(ended).toEqual([])
  // The node takes the flag over.
  expect(sent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`))
  expect(begin({ OTEL_TRACES_SAMPLER: 'always_off' }, '01').ended).toEqual([])
})

test('a share of the requests is traced, whole', () => {
  const variables = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' }
  const traces = Array.from({ length: 2_000 }, () => begin(variables).ended.length)
  const traced = traces.filter((spans) => spans > 0)
  // 500 are expected; beyond these bounds are 6 standard deviations.
  expect(traced.length).toBeGreaterThan(384)
  expect(traced.length).toBeLessThan(616)
  expect(new Set(traced)).toEqual(new Set([3]))
})

test('without a collector there is no span, and the context of the caller goes on to the node', () => {
  const { ended, sent } = begin({ OTEL_TRACES_EXPORTER: 'none' }, '01')
  expect(ended).toEqual([])
  expect(sent).toBe(`00-${TRACE}-b7ad6b7169203331-01`)
  expect(begin({ OTEL_TRACES_EXPORTER: 'none' }).sent).toBeUndefined()
})
