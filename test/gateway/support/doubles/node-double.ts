import { env } from 'cloudflare:workers'
import type { NodeCall, NodeStep } from './node-script.ts'

/** A real HTTP server on loopback that plays a node's part. */
export interface NodeDouble {
  id: string
  url: string
  calls(): Promise<NodeCall[]>
  /** Closes the port and every connection, like a killed process. */
  kill(): Promise<void>
}

/** Test files run beside each other, and may call their nodes the same. */
const FILE = crypto.randomUUID()

/**
 * Opens a node double outside of workerd.
 *
 * @param options.tls what stands in front of it ends TLS, and asks for the client certificate of the tests
 */
export async function startNode(
  id: string,
  steps: NodeStep[],
  options: { tls?: boolean } = {},
): Promise<NodeDouble> {
  const controlUrl = `${env.TEST_NODE_URL}/${FILE}-${id}`
  const response = await fetch(controlUrl, { method: 'PUT', body: JSON.stringify({ steps, ...options }) })
  const { url } = await response.json<{ url: string }>()
  return {
    id,
    url,
    calls: async () => (await fetch(controlUrl)).json<NodeCall[]>(),
    kill: async () => {
      await (await fetch(controlUrl, { method: 'DELETE' })).text()
    },
  }
}
