import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import { joinMaskParts } from '@copal/shared/wire/mask-parts.ts'
import type { DatasetRef, Job, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import {
  heartbeat,
  heartbeatResponse,
  type Heartbeat,
  type HeartbeatResponse,
} from '@copal/shared/wire/heartbeat.ts'
import { receiptBatch, type Receipt, type SettledReceipts } from '@copal/shared/wire/receipts.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import type { StoredArtifact, StoredFile } from '@copal/shared/wire/stored-file.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import {
  BODY_HASH_HEADER,
  claimedNodeId,
  SIGNATURE_HEADER,
  signedHeaders,
  verify,
} from '@copal/shared/wire/signature.ts'

/** The secret that the nodes' secrets are derived from. */
const GATEWAY_SECRET = 'a secret for tests only'

/** The gateway as a node sees it: the internal routes over real HTTP, with signatures and wire schemas checked. */
export interface GatewayDouble {
  readonly url: string
  /** The id of a known node. */
  readonly nodeId: string
  readonly secret: string
  /** The desired state in heartbeat responses. Tests change it. */
  desired: HeartbeatResponse['desired']
  /** Whether heartbeat responses say that the node is registered. False as after a reset of the fleet. */
  registered: boolean
  /** Jobs that heartbeat responses list until a node reports their end. */
  jobs: Job[]
  readonly heartbeats: Heartbeat[]
  /** The last report of every job. */
  readonly reports: Map<string, JobReport>
  /** Settled receipts by request id. */
  readonly receipts: Map<string, Receipt>
  /** `masks/<sha256>`, `datasets/<sha256>` and `statistics/<artifact>/<file>`. */
  readonly artifacts: Map<string, Uint8Array>
  /** Calls by method and path, rejected ones included. */
  readonly calls: string[]
  /** Replaces the route when it returns true. */
  intercept: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined
  addMask(bytes: Uint8Array): string
  addDataset(domain: string, texts: readonly string[]): DatasetRef
  /** Calls a node as the gateway does, signed. */
  callNode(nodeUrl: string, method: string, path: string, body: unknown): Promise<Response>
  /** Breaks every connection, and new ones at once. It keeps its port, which another process could take. */
  disconnect(): void
  reconnect(): void
  /** Stops listening and breaks every connection. */
  close(): Promise<void>
}

/** Starts a gateway double on a free port of the loopback interface. */
export async function startGatewayDouble(nodeId = 'node-1'): Promise<GatewayDouble> {
  let isDisconnected = false
  const server = createServer((request, response) => void serve(double, request, response))
  server.on('connection', (socket) => {
    if (isDisconnected) socket.destroy()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  /** Returns the node at a URL; for a URL without a heartbeat, the node of the last heartbeat. */
  const nodeAt = (nodeUrl: string) =>
    (double.heartbeats.findLast(({ url }) => url === nodeUrl) ?? double.heartbeats.at(-1))?.nodeId ?? nodeId
  const double: GatewayDouble = {
    url: `http://127.0.0.1:${port}`,
    nodeId,
    secret: await nodeSecret(GATEWAY_SECRET, nodeId),
    desired: { active: null, previous: null },
    registered: false,
    jobs: [],
    heartbeats: [],
    reports: new Map(),
    receipts: new Map(),
    artifacts: new Map(),
    calls: [],
    intercept: undefined,
    addMask(bytes) {
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      double.artifacts.set(`masks/${sha256}`, bytes)
      return sha256
    },
    addDataset(domain, texts) {
      const bytes = new TextEncoder().encode(texts.map((text) => `${JSON.stringify({ text })}\n`).join(''))
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      double.artifacts.set(`datasets/${sha256}`, bytes)
      return { sha256, domain, samples: texts.length, bytes: bytes.length }
    },
    async callNode(nodeUrl, method, path, body) {
      const bytes = new TextEncoder().encode(JSON.stringify(body))
      const called = nodeAt(nodeUrl)
      const secret = await nodeSecret(GATEWAY_SECRET, called)
      const signed = { nodeId: called, to: 'node', method, path, body: bytes } as const
      return fetch(new URL(path, nodeUrl), {
        method,
        headers: { ...(await signedHeaders(secret, signed, Date.now())), 'content-type': 'application/json' },
        body: bytes,
      })
    },
    disconnect() {
      isDisconnected = true
      server.closeAllConnections()
    },
    reconnect() {
      isDisconnected = false
    },
    async close() {
      if (!server.listening) return
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return double
}

async function serve(
  double: GatewayDouble,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  double.calls.push(`${request.method} ${request.url}`)
  if (double.intercept?.(request, response)) return
  try {
    const body = await readBody(request)
    const { method = '', url: path = '' } = request
    const named = request.headers[SIGNATURE_HEADER]
    const header = typeof named === 'string' ? named : null
    const nodeId = claimedNodeId(header)
    const secret = await nodeSecret(GATEWAY_SECRET, nodeId)
    await verify([secret], { nodeId, to: 'gateway', method, path, body }, header, Date.now())
    if (request.headers[BODY_HASH_HEADER] !== createHash('sha256').update(body).digest('hex'))
      throw new AppError('invalid_signature', `'${BODY_HASH_HEADER}' does not name the hash of the body.`)
    answer(response, 200, route(double, method, path, body))
  } catch (error) {
    const failure = toAppError(error)
    answer(response, failure.status, JSON.stringify(errorBody(failure)))
  }
}

function route(double: GatewayDouble, method: string, path: string, body: Uint8Array): string | Uint8Array {
  const [, kind, sha256] = /^\/internal\/(masks|datasets)\/([0-9a-f]{64})$/.exec(path) ?? []
  if (kind && sha256 && method === 'GET') {
    const bytes = double.artifacts.get(`${kind}/${sha256}`)
    if (!bytes) throw new AppError('not_found', `There is no ${path}.`)
    return bytes
  }
  if (kind === 'masks' && sha256 && method === 'PUT') {
    if (createHash('sha256').update(body).digest('hex') !== sha256) {
      throw new AppError('invalid_request', 'The body does not have the hash of its path.')
    }
    double.artifacts.set(`masks/${sha256}`, body)
    return JSON.stringify({ sha256 } satisfies StoredFile)
  }
  const [, ofStatistics, artifact = '', piece] =
    /^\/internal\/(statistics\/([0-9a-f]{64})\/(?:([0-9a-f]{64})|manifest\.json))$/.exec(path) ?? []
  if (ofStatistics && method === 'PUT') {
    double.artifacts.set(ofStatistics, body)
    return JSON.stringify(
      piece === undefined
        ? ({ artifact } satisfies StoredArtifact)
        : ({ sha256: piece } satisfies StoredFile),
    )
  }
  const stored = ofStatistics === undefined ? undefined : double.artifacts.get(ofStatistics)
  if (stored && method === 'GET') return stored
  const [, file = '', part] =
    /^\/internal\/masks\/([0-9a-f]{64})(?:\/parts\/([0-9a-f]{64}))?$/.exec(path) ?? []
  if (part && method === 'PUT') {
    double.artifacts.set(`parts/${file}/${part}`, body)
    return JSON.stringify({ sha256: part } satisfies StoredFile)
  }
  if (file && method === 'POST') {
    const { parts } = validate(joinMaskParts, json(body))
    const bytes = parts.map((hash) => double.artifacts.get(`parts/${file}/${hash}`) ?? new Uint8Array())
    return route(double, 'PUT', path, Uint8Array.from(Buffer.concat(bytes)))
  }
  if (method === 'POST' && path === '/internal/nodes/heartbeat')
    return JSON.stringify(takeHeartbeat(double, json(body)))
  if (method === 'POST' && path === '/internal/nodes/receipts') {
    const before = double.receipts.size
    for (const receipt of validate(receiptBatch, json(body)).receipts)
      double.receipts.set(receipt.requestId, receipt)
    return JSON.stringify({ settled: double.receipts.size - before } satisfies SettledReceipts)
  }
  throw new AppError('not_found', `There is no ${method} ${path}.`)
}

function takeHeartbeat(double: GatewayDouble, body: unknown): HeartbeatResponse {
  const beat = validate(heartbeat, body)
  double.heartbeats.push(beat)
  for (const report of beat.jobs) {
    double.reports.set(report.id, report)
    if (report.state !== 'running') double.jobs = double.jobs.filter(({ id }) => id !== report.id)
  }
  return heartbeatResponse.parse({
    registered: double.registered,
    desired: double.desired,
    jobs: double.jobs,
  })
}

function json(body: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(body))
}

async function readBody(request: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Uint8Array.from(Buffer.concat(chunks))
}

function answer(response: ServerResponse, status: number, body: string | Uint8Array): void {
  const type = typeof body === 'string' ? 'application/json' : 'application/octet-stream'
  response.writeHead(status, { 'content-type': type }).end(body)
}
