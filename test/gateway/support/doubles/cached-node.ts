import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach } from 'vitest'
import { adminJson } from './simulated-node.ts'
import { sendHeartbeat, createKey, post, until } from '../requests/gateway-requests.ts'
import { startNode, type NodeDouble } from './node-double.ts'

/** Returns the response cache of a tenant. */
export const cacheOf = (tenant: string) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant))
/** Returns a weight set that requests can start on. */
export const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const

let prompts = 0
/** Returns a request that was never sent before. */
export const newRequest = (fields: object = {}) => ({
  model: 'tiny',
  messages: [{ role: 'user', content: `question ${(prompts += 1)}` }],
  temperature: 0,
  max_tokens: 5,
  ...fields,
})

/** Returns the headers that must be equal in a response and its cached copy. */
export const shownHeaders = ({ headers }: Response) =>
  ['x-copal-cache', 'x-copal-mask', 'x-copal-node', 'x-copal-domain', 'content-type'].map((name) =>
    headers.get(name),
  )

/** Sends a request and waits until its response is cached, which happens after the response was sent. */
export async function untilCached(tenant: string, more: () => Promise<Response>): Promise<Response> {
  const before = (await cacheOf(tenant).stats()).answers
  const response = await more()
  await until('the response to be cached', async () =>
    (await cacheOf(tenant).stats()).answers > before ? true : undefined,
  )
  return response
}

/** Creates the tenants `cached` and `other`, a key of the first, and a node with the model `tiny` for the tests of a file. */
export function useCachedNode() {
  let node: NodeDouble
  let key: string
  let active = 0
  const heartbeat = () =>
    sendHeartbeat(node, 'tiny', { activeVersion: active, weightSets: [ready(0), ready(active || 1)] })
  beforeAll(async () => {
    // All responses differ, so that a cached one is recognised.
    const steps = Array.from({ length: 200 }, (_, n) => ({ kind: 'answer' as const, body: `{"n":${n}}` }))
    node = await startNode('cache-1', steps)
    for (const tenant of ['cached', 'other']) await adminJson('PUT', `/tenants/${tenant}`)
    key = (await createKey({ tenant: 'cached' })).key
  })
  // A silent node gets no requests.
  beforeEach(heartbeat)
  return {
    get node() {
      return node
    },
    get key() {
      return key
    },
    /** Returns how many requests the node received. */
    calls: async () => (await node.calls()).length,
    /** Sends a request that uses the cache. */
    ask: (body: object, headers: Record<string, string> = {}, as = key) =>
      post(as, '/v1/chat/completions', body, { headers: { 'x-copal-cache': 'true', ...headers } }),
    /** Makes another version the active one of the node. */
    async swap(version: number) {
      active = version
      await heartbeat()
    },
  }
}
