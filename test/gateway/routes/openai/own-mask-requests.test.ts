import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { cacheOf, newRequest, ready, untilCached, useCachedNode } from '../../support/doubles/cached-node.ts'
import { createKey, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { activate, seedMasks } from '../../support/state/seed-masks.ts'

const cached = useCachedNode()
const maskOf = ({ headers }: Response) => headers.get('x-copal-mask')

/** Has the node hold these versions, with mask 1 active. */
const beat = (...versions: number[]) =>
  sendHeartbeat(cached.node, 'tiny', { activeVersion: 1, weightSets: versions.map(ready) })

async function serveOwnMasks(): Promise<void> {
  await beat(0, 1)
  await seedMasks('tiny', [1, 6])
  await activate('tiny', 1)
  await env.DB.prepare('update models set domain_versions = ? where id = ?')
    .bind(JSON.stringify({ legal: 6 }), 'tiny')
    .run()
}

test('requests of a domain are answered and cached under its own mask, by header or key, while a node holds it', async () => {
  await serveOwnMasks()
  const { desired } = await beat(0, 1)
  expect(desired.own).toMatchObject([{ domain: 'legal', version: 6 }])
  const ofLegal = { 'x-copal-domain': 'legal' }
  const shared = newRequest()
  // No node holds it yet.
  expect(maskOf(await untilCached('cached', () => cached.ask(shared, ofLegal)))).toBe('1')

  await beat(0, 1, 6)
  expect(maskOf(await cached.ask(newRequest(), ofLegal))).toBe('6')
  expect(maskOf(await cached.ask(newRequest(), { 'x-copal-domain': 'code' }))).toBe('1')
  const { key } = await createKey({ tenant: 'cached', defaultDomain: 'legal' })
  expect(maskOf(await cached.ask(newRequest(), {}, key))).toBe('6')
  const named = await cached.ask(newRequest({ model: 'tiny@mask-1' }), ofLegal)
  expect(maskOf(named)).toBe('1')
  const sent = (await cached.node.calls()).map(
    ({ body }) => (JSON.parse(body) as { maskVersion?: number }).maskVersion,
  )
  expect(sent.slice(-4)).toEqual([6, undefined, 6, 1])

  // A response of the shared mask is not that of the domain's own one.
  const own = await untilCached('cached', () => cached.ask(shared, ofLegal))
  expect([own.headers.get('x-copal-cache'), maskOf(own)]).toEqual(['miss', '6'])
  const again = await cached.ask(shared, ofLegal)
  expect([again.headers.get('x-copal-cache'), maskOf(again)]).toEqual(['hit', '6'])
  expect((await cacheOf('cached').stats()).answers).toBeGreaterThan(1)

  // The node has dropped it: the shared mask serves, and its response is found.
  await beat(0, 1)
  const after = await cached.ask(shared, ofLegal)
  expect([after.headers.get('x-copal-cache'), maskOf(after)]).toEqual(['hit', '1'])
})
