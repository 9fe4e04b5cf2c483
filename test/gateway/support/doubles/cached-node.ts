import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach } from 'vitest'
import { adminJson } from './simulated-node.ts'
import { beat, createKey, post, until } from '../requests/gateway-requests.ts'
import { startNode, type NodeDouble } from './node-double.ts'

/** The cache of a tenant. */
export const cacheOf = (tenant: string) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant))
/** A weight set that requests can start on. */
export const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const

let prompts = 0
/** A request that nobody sent before. */
export const fresh = (fields: object = {}) => ({
  model: 'tiny',
  messages: [{ role: 'user', content: `question ${(prompts += 1)}` }],
  temperature: 0,
  max_tokens: 5,
  ...fields,
})

/** What an answer's headers say about it. */
export const shown = ({ headers }: Response) =>
  ['x-copal-cache', 'x-copal-mask', 'x-copal-node', 'x-copal-domain', 'content-type'].map((name) =>
    headers.get(name),
  )

/** Answers go into the cache behind themselves: asks until one is kept. */
export async function kept(tenant: string, more: () => Promise<Response>): Promise<Response> {
  const before = (await cacheOf(tenant).stats()).answers
  const response = await more()
  await until('the answer to be kept', async () =>
    (await cacheOf(tenant).stats()).answers > before ? true : undefined,
  )
  return response
}

/** For the tests of a file: the tenants `cached` and `other`, a key of the first, and a node of the model `tiny`. */
export function useCachedNode() {
  let node: NodeDouble
  let key: string
  let active = 0
  const heartbeat = () =>
    beat(node, 'tiny', { activeVersion: active, weightSets: [ready(0), ready(active || 1)] })
  beforeAll(async () => {
    // Each answer is another, so that one which was kept shows.
    const steps = Array.from({ length: 200 }, (_, n) => ({ kind: 'answer' as const, body: `{"n":${n}}` }))
    node = await startNode('cache-1', steps)
    for (const tenant of ['cached', 'other']) await adminJson('PUT', `/tenants/${tenant}`)
    key = (await createKey({ tenant: 'cached' })).key
  })
  // A node that is not heard of for six seconds takes nothing.
  beforeEach(heartbeat)
  return {
    get node() {
      return node
    },
    get key() {
      return key
    },
    /** How many requests the node got. */
    calls: async () => (await node.calls()).length,
    /** Asks with the cache. */
    ask: (body: object, headers: Record<string, string> = {}, as = key) =>
      post(as, '/v1/chat/completions', body, { headers: { 'x-copal-cache': 'true', ...headers } }),
    /** The node swaps. */
    async swap(version: number) {
      active = version
      await heartbeat()
    },
  }
}
