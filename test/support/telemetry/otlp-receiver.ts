import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An attribute in OTLP's JSON. */
export interface OtlpAttribute {
  key: string
  value: { stringValue?: string; intValue?: number | string; boolValue?: boolean; doubleValue?: number }
}

/** A span in OTLP's JSON. */
export interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: OtlpAttribute[]
  status: { code?: number; message?: string }
}

/** A log record in OTLP's JSON. */
export interface OtlpLogRecord {
  body: { stringValue: string }
  severityText: string
  attributes: OtlpAttribute[]
  traceId?: string
  spanId?: string
}

/** A metric in OTLP's JSON. */
export interface OtlpMetric {
  name: string
  unit: string
  gauge?: { dataPoints: object[] }
  sum?: { dataPoints: object[]; isMonotonic: boolean; aggregationTemporality: number }
  histogram?: {
    dataPoints: { count: string; exemplars: { traceId: string; spanId: string }[] }[]
    aggregationTemporality: number
  }
}

/** The parts of bodies that tests read. */
interface OtlpBody {
  resourceSpans?: { resource: Resource; scopeSpans: { spans: OtlpSpan[] }[] }[]
  resourceMetrics?: { resource: Resource; scopeMetrics: { metrics: OtlpMetric[] }[] }[]
  resourceLogs?: { resource: Resource; scopeLogs: { logRecords: OtlpLogRecord[] }[] }[]
}
interface Resource {
  attributes: OtlpAttribute[]
}

/** One request that a receiver got. */
export interface OtlpCall {
  path: string
  headers: IncomingHttpHeaders
  body: OtlpBody
}

/** A receiver of OTLP over HTTP on a loopback port. */
export interface OtlpReceiver {
  readonly url: string
  readonly calls: OtlpCall[]
  spans(): OtlpSpan[]
  metrics(): OtlpMetric[]
  logs(): OtlpLogRecord[]
  close(): Promise<void>
}

/** Starts a receiver that takes everything. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const calls: OtlpCall[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(parts).toString()) as OtlpBody
      calls.push({ path: request.url ?? '', headers: request.headers, body })
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    spans: () =>
      calls.flatMap(({ body }) =>
        (body.resourceSpans ?? []).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
      ),
    metrics: () =>
      calls.flatMap(({ body }) =>
        (body.resourceMetrics ?? []).flatMap(({ scopeMetrics }) =>
          scopeMetrics.flatMap(({ metrics }) => metrics),
        ),
      ),
    logs: () =>
      calls.flatMap(({ body }) =>
        (body.resourceLogs ?? []).flatMap(({ scopeLogs }) =>
          scopeLogs.flatMap(({ logRecords }) => logRecords),
        ),
      ),
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
