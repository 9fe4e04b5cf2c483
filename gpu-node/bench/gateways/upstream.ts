/**
 * The process of the upstream. It responds at once with prepared texts, as an OpenAI server and as a node of gateways,
 * to which it also sends heartbeats and receipts. It accepts spans too.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { createGatewayClient } from '@copal/gpu-node/serving/control/gateway-client.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, errorBody, type ErrorCode } from '@copal/shared/errors.ts'
import { FAULT, jsonResponse, MODEL, PROMPT_TOKENS, streamEvents, TOKENS } from './texts.ts'

/** Message to the upstream: register as a node of this gateway. */
export interface Attach {
  gatewayUrl: string
  /** Secret of the node. */
  secret: string
  nodeId: string
  /** How long the node takes for a response; by default it responds at once. */
  responseMs?: number
}
/** Message from the upstream. */
export type UpstreamMessage = { port: number; attached?: string } | { error: string }

/** The same values as in gpu-node/src/serving/control. */
const HEARTBEAT_MS = 2_000
const RECEIPTS_MS = 200
const RECEIPTS_PER_BATCH = 256

const plain = createServer(
  (request, response) => void respond(request, response).catch(() => response.destroy()),
)
process.send?.({ port: await listen(plain) } satisfies UpstreamMessage)
process.on('message', (attach: Attach) => void registerAsNode(attach))
process.on('disconnect', () => process.exit())

/**
 * Responds to a request.
 *
 * @param onCall receives the request that a gateway has forwarded
 * @param responseMs how long it takes
 */
async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  onCall?: (body: unknown) => void,
  responseMs = 0,
): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  if (request.url?.endsWith('/traces') || chunks.length === 0) return void response.end('{}')
  const body = JSON.parse(Buffer.concat(chunks).toString()) as ForwardedCall
  const fault = faultOf(body.request ?? body)
  if (fault) {
    response.writeHead(fault.status, { 'content-type': 'application/json', 'retry-after': '1' })
    return void response.end(JSON.stringify(errorBody(fault)))
  }
  if (responseMs > 0) await sleep(responseMs)
  if ((body.request ?? body).stream === true) {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-copal-mask': '0' })
    for (const event of streamEvents) response.write(event)
    response.end()
  } else {
    const headers = { 'content-type': 'application/json', 'x-copal-mask': '0' }
    response.writeHead(200, { ...headers, 'content-length': jsonResponse.length }).end(jsonResponse)
  }
  onCall?.(body)
}

/** The fields of a call that are read. */
interface ForwardedCall {
  stream?: boolean
  messages?: { content?: unknown }[]
  request?: ForwardedCall
}

/** Returns the error that a prompt asks for. */
function faultOf({ messages = [] }: ForwardedCall): AppError | undefined {
  const content = messages.at(-1)?.content
  if (typeof content !== 'string' || !content.startsWith(FAULT)) return undefined
  const [code = '', param] = content.slice(FAULT.length).split(' ')
  return new AppError(
    code as ErrorCode,
    'The prompt asked for this error.',
    param === undefined ? {} : { param },
  )
}

async function registerAsNode({ gatewayUrl, secret, nodeId, responseMs }: Attach): Promise<void> {
  const gateway = createGatewayClient({ baseUrl: gatewayUrl, nodeId, secret })
  let waiting: Receipt[] = []
  const node = createServer(
    // A busy gateway may close the connection on which it sends spans. That is no failure.
    (request, response) =>
      void respond(request, response, (call) => waiting.push(...receiptsOf(call)), responseMs).catch(() =>
        response.destroy(),
      ),
  )
  const port = await listen(node)
  const sendHeartbeat = () =>
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
  // Receipts that arrive meanwhile are sent with the next batch, as a node does it.
  const sendReceipts = async () => {
    for (let due = waiting.length; due > 0;) {
      const receipts = waiting.slice(0, Math.min(due, RECEIPTS_PER_BATCH))
      await gateway.receipts({ nodeId, receipts })
      waiting = waiting.slice(receipts.length)
      due -= receipts.length
    }
  }
  try {
    await sendHeartbeat()
    process.send?.({ port, attached: nodeId } satisfies UpstreamMessage)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies UpstreamMessage)
    return
  }
  repeat(HEARTBEAT_MS, sendHeartbeat)
  repeat(RECEIPTS_MS, sendReceipts)
}

/** Repeats work forever, also when it fails because the gateway is away. */
function repeat(everyMs: number, work: () => Promise<unknown>): void {
  const again = (): void => repeat(everyMs, work)
  setTimeout(() => void work().then(again, again), everyMs)
}

/** Returns the receipt of a call; none for one without a request, such as to describe texts. */
function receiptsOf(call: unknown): Receipt[] {
  const { requestId, account, attestation, domain } = call as Partial<ChatCall>
  if (requestId === undefined || domain === undefined) return []
  const receipt: Receipt = {
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
  return [receipt]
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  server.keepAliveTimeout = 60_000
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the upstream has no port')
  return address.port
}
