/**
 * The upstream of the benchmark, a process of its own: answers at once, with texts that are ready, as an OpenAI server
 * and as nodes of gateways, to which it also sends heartbeats and receipts as our node does. It takes spans too.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { createGatewayClient } from '@copal/gpu-node/serving/control/gateway-client.ts'
import { jsonAnswer, MODEL, PROMPT_TOKENS, streamEvents, TOKENS } from './texts.ts'

/** To the upstream: be a node of this gateway. */
export interface Attach {
  gatewayUrl: string
  /** The node's. */
  secret: string
  nodeId: string
}
/** From the upstream. */
export type Said = { port: number; attached?: string } | { error: string }

/** As gpu-node/src/control does it. */
const BEAT_MS = 2_000
const RECEIPTS_MS = 200
const BATCH = 256

const plain = createServer(
  (request, response) => void answer(request, response).catch(() => response.destroy()),
)
process.send?.({ port: await listen(plain) } satisfies Said)
process.on('message', (attach: Attach) => void beNode(attach))
process.on('disconnect', () => process.exit())

/** @param called is given the request that a gateway has sent on */
async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  called?: (body: unknown) => void,
): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  if (request.url?.endsWith('/traces') || chunks.length === 0) return void response.end('{}')
  const body = JSON.parse(Buffer.concat(chunks).toString()) as { stream?: boolean; request?: typeof body }
  if ((body.request ?? body).stream === true) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-copal-mask': '0' })
    for (const event of streamEvents) response.write(event)
    response.end()
  } else {
    const headers = { 'content-type': 'application/json', 'x-copal-mask': '0' }
    response.writeHead(200, { ...headers, 'content-length': jsonAnswer.length }).end(jsonAnswer)
  }
  called?.(body)
}

async function beNode({ gatewayUrl, secret, nodeId }: Attach): Promise<void> {
  const gateway = createGatewayClient({ baseUrl: gatewayUrl, nodeId, secret })
  let waiting: Receipt[] = []
  const node = createServer(
    // A gateway that leaves, as one that is busy may do with its spans, is no fault.
    (request, response) =>
      void answer(request, response, (call) => waiting.push(receiptOf(call))).catch(() => response.destroy()),
  )
  const port = await listen(node)
  const beat = () =>
    gateway.heartbeat({
      nodeId,
      url: `http://127.0.0.1:${port}`,
      draining: false,
      leaving: false,
      model: { id: MODEL, baseSha256: 'b'.repeat(64), contextLength: 8192, parameters: 1 },
      activeVersion: 0,
      weightSets: [{ version: 0, state: 'ready', requests: 0 }],
      load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1_000_000 },
      methods: [],
      prefixes: [],
      requests: waiting.map(({ requestId, promptTokens, completionTokens }) => ({
        requestId,
        promptTokens,
        completionTokens,
        idleMs: 0,
      })),
      jobs: [],
    })
  // What comes meanwhile goes with the next ones, as from a node.
  const send = async () => {
    for (let due = waiting.length; due > 0;) {
      const receipts = waiting.slice(0, Math.min(due, BATCH))
      await gateway.receipts({ nodeId, receipts })
      waiting = waiting.slice(receipts.length)
      due -= receipts.length
    }
  }
  try {
    await beat()
    process.send?.({ port, attached: nodeId } satisfies Said)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies Said)
    return
  }
  repeat(BEAT_MS, beat)
  repeat(RECEIPTS_MS, send)
}

/** A gateway that is away is asked again. */
function repeat(everyMs: number, work: () => Promise<unknown>): void {
  setTimeout(() => void work().then(noted, noted), everyMs)
  function noted(): void {
    repeat(everyMs, work)
  }
}

function receiptOf(call: unknown): Receipt {
  const { requestId, account, attestation, domain } = call as ChatCall
  return {
    requestId,
    account,
    attestation,
    model: MODEL,
    domain,
    maskVersion: 0,
    promptTokens: PROMPT_TOKENS,
    completionTokens: TOKENS,
    finishReason: 'length',
    queueMs: 0,
    timeToFirstTokenMs: 0,
    totalMs: 0,
    drift: null,
  }
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  server.keepAliveTimeout = 60_000
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the upstream has no port')
  return address.port
}
