import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import type { EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { readOtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { SIGNATURE_HEADER, signedHeaders } from '@copal/shared/wire/signature.ts'
import type { Backend, WeightSet } from '../../../gpu-node/src/serving/contract/backend.ts'
import type { Engine, EngineDeps } from '../../../gpu-node/src/serving/engine/engine-api.ts'
import { createEngine } from '../../../gpu-node/src/serving/engine/engine.ts'
import { checkInvariants } from '../engine/engine-invariants.ts'
import { listen } from '../../../gpu-node/src/platform/listener.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import type { NodeServerDeps } from '../../../gpu-node/src/serving/server/generation/node-server-deps.ts'
import { createNodeServer, type NodeServer } from '../../../gpu-node/src/serving/server/node-server.ts'
import { createNodeTelemetry } from '../../../gpu-node/src/serving/telemetry/node-telemetry.ts'
import { createNodeTracing } from '../../../gpu-node/src/serving/telemetry/node-tracing.ts'
import { memoryLog } from '../doubles/memory-log.ts'
import { WAIT } from '../harness/wait.ts'

/** The node's own secret. */
export const NODE_SECRET = `node-under-test:${'5'.repeat(64)}`
export const NODE_ID = 'node-under-test'
const TEST_RESOURCE = { 'service.name': 'copal-node', 'service.instance.id': NODE_ID }
/** The second secret, which is valid during a rotation. */
export const OTHER_SECRET = 'another of sixteen bytes'

/** A node's server on a loopback port, with everything that tests inspect. */
export interface TestNode {
  url: string
  engine: Engine
  server: NodeServer
  receipts: Receipt[]
  spans: InMemorySpanExporter
  log: { lines: string[] }
  /** Sends a signed call. `options.body` replaces the JSON of `value`. */
  post(path: string, value: unknown, options?: PostOptions): Promise<Response>
  /** Resolves once there are `count` receipts. */
  untilReceipts(count: number): Promise<Receipt[]>
  close(): Promise<void>
}

interface PostOptions {
  body?: string
  secret?: string
  /** The node that the call is signed for. */
  nodeId?: string
  signature?: string
  headers?: Record<string, string>
  signal?: AbortSignal
  /** Calls the handler without a connection, which would buffer megabytes of unread data. */
  directly?: boolean
}

/** Starts a node with any backend. */
export async function startTestNode(
  options: {
    backend: Backend
    model: DenseModel
    dense?: () => WeightSet | null
    /** Weight sets that requests may name, besides dense. */
    named?: (version: number) => WeightSet | null
    engine?: Partial<EngineDeps>
  } & Partial<
    Pick<
      NodeServerDeps,
      | 'evaluateText'
      | 'grammars'
      | 'nodeId'
      | 'secrets'
      | 'keepAliveMs'
      | 'onCacheableResponse'
      | 'scoreTimeoutMs'
      | 'describeTimeoutMs'
      | 'requestTimeoutMs'
    >
  >,
): Promise<TestNode> {
  const { backend, model, dense, named, engine: engineDeps, ...serverDeps } = options
  const spans = new InMemorySpanExporter()
  const otel = readOtelSettings({}, { sampler: 'parentbased_always_on', resource: TEST_RESOURCE })
  const tracing = createNodeTracing({ otel, processors: [new SimpleSpanProcessor(spans)] })
  const telemetry = createNodeTelemetry({ model: model.id, otel, tracing })
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    observer: telemetry.metrics.observer,
    inspect: checkInvariants,
    ...engineDeps,
  })
  telemetry.metrics.trackEngine(engine)
  const receipts: Receipt[] = []
  telemetry.metrics.trackNode({ weightSets: () => [], receiptsWaiting: () => receipts.length })
  const log = memoryLog()
  const server = createNodeServer({
    nodeId: NODE_ID,
    secrets: [NODE_SECRET, OTHER_SECRET],
    model,
    engine,
    weights: (version) => (version === 0 ? dense?.() : named?.(version)) ?? null,
    evaluateText: noEvaluation,
    onReceipt: (receipt) => receipts.push(receipt),
    telemetry,
    log,
    // Long, because a response that is late on a busy machine has other headers.
    keepAliveMs: 600_000,
    ...serverDeps,
  })
  const listener = await listen('127.0.0.1', 0)
  listener.serve(server.fetch)

  return {
    url: listener.url,
    engine,
    server,
    receipts,
    spans,
    log,
    async post(path, value, { body, secret, nodeId, signature, headers, signal, directly } = {}) {
      const bytes = new TextEncoder().encode(body ?? JSON.stringify(value))
      const signed = { nodeId: nodeId ?? NODE_ID, to: 'node', method: 'POST', path, body: bytes } as const
      const signing = await signedHeaders(secret ?? NODE_SECRET, signed, Date.now())
      if (signature !== undefined) signing[SIGNATURE_HEADER] = signature
      const request = new Request(listener.url + path, {
        method: 'POST',
        body: bytes,
        headers: { 'content-type': 'application/json', ...signing, ...headers },
        ...(signal ? { signal } : {}),
      })
      return directly ? server.fetch(request) : fetch(request)
    },
    async untilReceipts(count) {
      const untilMs = performance.now() + WAIT.timeout
      while (receipts.length < count) {
        if (performance.now() > untilMs)
          throw new Error(`${receipts.length} receipts arrived, ${count} were expected`)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      return receipts
    },
    async close() {
      engine.close()
      await listener.close(1000)
      await telemetry.shutdown()
    },
  }
}

/** Evaluates no text: for tests without evaluations. */
async function* noEvaluation(): AsyncGenerator<EvaluateEvent> {
  yield { type: 'result', tokens: 0, windows: 0, nllMean: 0, perplexity: 1, maskVersion: 0 }
}

let nextCall = 0

/** Wraps a client's body into the call that the gateway sends. */
export function call(request: object, fields: object = {}): object {
  return { requestId: `request-${nextCall++}`, domain: 'legal', sample: false, request, ...fields }
}

/** Returns the parsed `data:` lines of a response. `[DONE]` and comments stay as they are. */
export async function readEvents(response: Response): Promise<unknown[]> {
  const events: unknown[] = []
  for (const block of (await response.text()).split('\n\n')) {
    if (block === '') continue
    if (!block.startsWith('data: ')) events.push(block)
    else if (block === 'data: [DONE]') events.push('[DONE]')
    else events.push(JSON.parse(block.slice(6)))
  }
  return events
}
