import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createGatewayClient } from '../../../gpu-node/src/serving/control/gateway-client.ts'
import { heartbeatOf } from './heartbeat.ts'

/** A node that is registered with a gateway and responds from a script instead of an engine. */
export interface ScriptedNode {
  readonly port: number
  /** Sends a heartbeat that lists the calls in progress. */
  sendHeartbeat(): Promise<unknown>
  close(): void
}

/**
 * Registers a scripted node with the model `tiny`.
 *
 * @param answer writes the response of a call, after the call was read
 */
export async function startScriptedNode(
  gateway: { url: string; nodeSecret(id: string): Promise<string> },
  answer: (response: ServerResponse) => Promise<void>,
): Promise<ScriptedNode> {
  const requestIds = new Set<string>()
  const server = createServer((request, response) => {
    if (request.url === '/health') return void response.end('{}')
    const run = async () => {
      const { requestId } = JSON.parse(await textOf(request)) as { requestId: string }
      requestIds.add(requestId)
      response.once('close', () => requestIds.delete(requestId))
      await answer(response)
    }
    return void run().catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const nodeId = 'scripted'
  const client = createGatewayClient({
    baseUrl: gateway.url,
    nodeId,
    secret: await gateway.nodeSecret(nodeId),
  })
  const sendHeartbeat = () =>
    client.heartbeat(
      heartbeatOf({ id: nodeId, url: `http://127.0.0.1:${port}` }, 'tiny', {
        requests: [...requestIds].map((requestId) => ({
          requestId,
          promptTokens: 1,
          completionTokens: 1,
          idleMs: 0,
        })),
      }),
    )
  await sendHeartbeat()
  return {
    port,
    sendHeartbeat,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
