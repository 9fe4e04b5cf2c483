/** Telemetry end to end: the real gateway and a real node send their spans, metrics and log lines to an OTLP receiver. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SPANS, type SpanDefinition } from '../../shared/src/telemetry/span-table.ts'
import { startFleet, type FleetNode, type TestFleet } from '../support/processes/fleet.ts'
import { until } from '../support/processes/service.ts'
import { startOtlpReceiver, type OtlpReceiver, type OtlpSpan } from '../support/telemetry/otlp-receiver.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const CALLER = 'b7ad6b7169203331'
const PROMPT = 'the cat sat on the mat and told nobody of its private thoughts'

let receiver: OtlpReceiver
let fleet: TestFleet
let node: FleetNode
let key: string

beforeAll(async () => {
  receiver = await startOtlpReceiver()
  const otel = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  fleet = await startFleet({
    variables: otel,
    nodeVariables: {
      ...otel,
      OTEL_METRIC_EXPORT_INTERVAL: '500',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment=test',
    },
  })
  node = await fleet.start('node-a')
  key = (await fleet.key()).key
})
afterAll(async () => {
  await fleet?.stop()
  await receiver?.close()
})

function complete(traceparent: string): Promise<Response> {
  return fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', traceparent },
    body: JSON.stringify({ model: 'tiny', prompt: PROMPT, max_tokens: 4, stream: true }),
  })
}

/** Returns the spans of a trace by name, once all have arrived. */
async function spansOf(trace: string, names: readonly string[]): Promise<Map<string, OtlpSpan>> {
  return until('the spans of a request', async () => {
    const spans = receiver.spans().filter(({ traceId }) => traceId === trace)
    const byName = new Map(spans.map((span) => [span.name, span]))
    return names.every((name) => byName.has(name)) ? byName : undefined
  })
}

test('one trace leads from the client through lease, queue, prefill and decode to the settlement', async () => {
  const response = await complete(`00-${TRACE}-${CALLER}-01`)
  await response.text()
  /** Each span with its parent. */
  const parents = {
    'POST /v1/completions': undefined,
    'text_completion tiny': 'POST /v1/completions',
    lease: 'text_completion tiny',
    'POST /rpc/completions': 'text_completion tiny',
    queue: 'POST /rpc/completions',
    prefill: 'POST /rpc/completions',
    decode: 'POST /rpc/completions',
    settle: 'POST /rpc/completions',
  }
  const spans = await spansOf(TRACE, Object.keys(parents))
  expect([...spans.keys()].toSorted()).toEqual(Object.keys(parents).toSorted())
  for (const [name, parent] of Object.entries(parents)) {
    const expected = parent === undefined ? CALLER : spans.get(parent)?.spanId
    expect([name, spans.get(name)?.parentSpanId]).toEqual([name, expected])
  }
})

test('every span that was sent is documented, with its attributes', () => {
  const documented: readonly SpanDefinition[] = SPANS
  const kinds = { internal: 1, server: 2, client: 3 }
  const spans = receiver.spans()
  expect(spans.length).toBeGreaterThan(8)
  for (const { name, kind, attributes } of spans) {
    const own = documented.filter(
      (span) => kinds[span.kind] === kind && (span.name === name || /^\{\w+\} \{\w+\}$/.test(span.name)),
    )
    const allowed = own.flatMap((span) => span.attributes)
    const undocumented = attributes.filter(({ key: attribute }) => !allowed.includes(attribute))
    expect([name, kind, undocumented]).toEqual([name, kind, []])
  }
})

test('the latency of the request links to its trace at /metrics of the node', async () => {
  const { url } = await node.process.ready()
  const headers = { accept: 'application/openmetrics-text' }
  const text = await (await fetch(`${url}/metrics`, { headers })).text()
  expect(text).toMatch(
    new RegExp(
      `^gen_ai_server_time_to_first_token_seconds_bucket\\{.*\\} \\d+ # \\{trace_id="${TRACE}"`,
      'm',
    ),
  )
})

test('a node pushes its metrics and log lines, and nothing that was sent has text of the client', async () => {
  const counted = await until('the tokens of the request', async () =>
    receiver.metrics().find(({ name, sum }) => name === 'copal.node.tokens' && sum?.dataPoints.length),
  )
  expect(counted.sum).toMatchObject({ isMonotonic: true, aggregationTemporality: 2 })
  await expect
    .poll(() => receiver.metrics().map(({ name }) => name))
    .toContain('gen_ai.server.request.duration')
  await expect.poll(() => receiver.logs().map(({ body }) => body.stringValue)).toContain('weight set loaded')
  const sent = JSON.stringify(receiver.calls.map(({ body }) => body))
  expect(sent).toContain('deployment')
  for (const word of ['private', 'thoughts']) expect(sent).not.toContain(word)
})
