import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TestProject } from 'vitest/node'
import { CA, pemOf } from '../setup/certificates.ts'
import type { NodeCall, NodeStep } from './node-script.ts'

/** Options of a node double. With `tls` it requires the client certificate. */
interface OpenNode {
  steps: NodeStep[]
  tls?: boolean
}

interface DoubleNode {
  server: Server
  sockets: Set<Socket>
  steps: NodeStep[]
  calls: NodeCall[]
  /** Resolves when the responses that are held go on. */
  released: PromiseWithResolvers<void>
}

/**
 * Runs beside the tests, in Node: a control server that opens and closes HTTP node doubles on loopback.
 * The tests run in workerd and talk to it through `node-double.ts`.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const nodes = new Map<string, DoubleNode>()
  // All servers, also those whose id was started again: an open one would keep the test process alive.
  const opened: DoubleNode[] = []
  const control = createServer((request, response) => {
    handleControl(nodes, opened, request, response).catch((error: unknown) =>
      response.writeHead(500).end(String(error)),
    )
  })
  const url = await listen(control)
  project.provide('nodeUrl', url)
  return async () => {
    for (const node of opened) close(node)
    control.closeAllConnections()
    await new Promise((resolve) => control.close(resolve))
  }
}

async function handleControl(
  nodes: Map<string, DoubleNode>,
  opened: DoubleNode[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const id = (request.url ?? '').slice(1)
  if (request.method === 'PUT') {
    const { steps, tls } = JSON.parse(await readText(request)) as OpenNode
    const node: DoubleNode = {
      server: tls ? createTlsServer({ ...pemOf('server'), ca: CA, requestCert: true }) : createServer(),
      sockets: new Set(),
      steps,
      calls: nodes.get(id)?.calls ?? [],
      released: Promise.withResolvers(),
    }
    node.server.on('request', (call, answer) => {
      play(node, call, answer).catch(() => answer.destroy())
    })
    node.server.on('connection', (socket) => {
      node.sockets.add(socket)
      socket.on('close', () => node.sockets.delete(socket))
    })
    const address = await listen(node.server)
    const url = tls ? address.replace('http:', 'https:') : address
    nodes.set(id, node)
    opened.push(node)
    response.end(JSON.stringify({ url }))
    return
  }
  const node = nodes.get(id)
  if (!node) {
    response.writeHead(404).end()
    return
  }
  if (request.method === 'DELETE') close(node)
  if (request.method === 'POST') node.released.resolve()
  response.end(JSON.stringify(node.calls))
}

async function play(node: DoubleNode, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const call: NodeCall = {
    method: request.method ?? '',
    path: request.url ?? '',
    headers: request.headers as Record<string, string>,
    body: await readText(request),
    startedAtMs: Date.now(),
    leftAtMs: null,
  }
  response.on('close', () => {
    if (!response.writableFinished) call.leftAtMs = Date.now()
  })
  node.calls.push(call)
  const step = node.steps[Math.min(node.calls.length, node.steps.length) - 1]
  if (!step || step.kind === 'drop') {
    response.destroy()
    return
  }
  if (step.kind === 'hang') return
  const type = step.kind === 'answer' ? 'application/json' : 'text/event-stream'
  response.writeHead(step.status ?? 200, { 'content-type': type, ...step.headers })
  if (step.kind === 'answer') {
    response.end(step.body)
    return
  }
  response.flushHeaders()
  if (step.held) await node.released.promise
  for (const chunk of Array.from({ length: step.times ?? 1 }, () => step.chunks).flat()) {
    if (step.pauseMs) await new Promise((resolve) => setTimeout(resolve, step.pauseMs))
    // The caller has disconnected.
    if (response.destroyed) return
    response.write(chunk)
  }
  if (step.ending === 'end') response.end()
  // Written bytes need time to be sent before the connection breaks.
  if (step.ending === 'destroy') setTimeout(() => response.destroy(), 50)
}

function close(node: DoubleNode): void {
  node.server.close()
  for (const socket of node.sockets) socket.destroy()
}

function listen(server: Server): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  })
}

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
