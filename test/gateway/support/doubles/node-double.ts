import { env } from 'cloudflare:workers'
import type { NodeCall, NodeStep } from './node-script.ts'

/** A real HTTP server on loopback that stands in for a node. */
export interface NodeDouble {
  id: string
  url: string
  calls(): Promise<NodeCall[]>
  /** Lets the responses go on that are held. */
  release(): Promise<void>
  /** Closes the port and every connection, like a killed process. */
  kill(): Promise<void>
}

/** Makes node names unique: test files run in parallel and may use the same names. */
const FILE = crypto.randomUUID()

/**
 * Opens a node double outside of workerd.
 *
 * @param options.tls serves TLS and requires the client certificate of the tests
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
    release: async () => {
      await (await fetch(controlUrl, { method: 'POST' })).text()
    },
    kill: async () => {
      await (await fetch(controlUrl, { method: 'DELETE' })).text()
    },
  }
}
