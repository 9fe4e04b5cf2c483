/** A node that somebody else has taken over: what it cannot do with its own secret and all that it is told. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ChatCall } from '@copal/shared/wire/node-rpc.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { signedHeaders, SIGNATURE_HEADER, verify } from '@copal/shared/wire/signature.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import type { Bindings } from '../../../../gateway/src/deps.ts'
import { errorOf, beat, heartbeatOf, signedPost } from '../../support/gateway.ts'
import { ask, limited } from '../../support/limited.ts'
import { startNode, type NodeDouble } from '../../support/node-double.ts'
import { TEST_NODE_SECRET } from '../../support/secrets.ts'

const HEARTBEAT = '/internal/nodes/heartbeat'
const RECEIPTS = '/internal/nodes/receipts'
const ANSWERS = '/internal/nodes/answers'
const CHUNKS = ['data: {"n":1}\n\n', 'data: [DONE]\n\n']
const MODEL = 'own-node'

const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
const nodeOf = async (id: string) => (await fleet().snapshot()).nodes.find((node) => node.id === id)

/** It gets the requests; `taken` has another secret, and nothing to do. */
let honest: NodeDouble
const taken = { id: 'taken', url: 'http://127.0.0.1:9' }
beforeAll(async () => {
  honest = await startNode('honest', [{ kind: 'stream', chunks: CHUNKS, ending: 'end' }])
})
beforeEach(async () => {
  await beat(honest, MODEL)
  await beat(taken, MODEL, { draining: true })
})
const lastCall = async () => {
  const call = (await honest.calls()).at(-1)
  if (!call) throw new Error('the node was not called')
  return { ...call, told: JSON.parse(call.body) as ChatCall }
}

describe('a node', () => {
  test('speaks for no other, whether it signs as itself, as the other, or for both', async () => {
    const beforehand = await nodeOf('honest')
    const other = heartbeatOf({ id: 'honest', url: taken.url }, MODEL, { leaving: true })
    const asItself = await signedPost(HEARTBEAT, other, { as: 'taken' })
    expect([asItself.status, (await errorOf(asItself)).message]).toEqual([
      401,
      "The call tells of node 'honest' and is signed by node 'taken'. A node speaks for itself alone.",
    ])
    const secret = await nodeSecret(TEST_NODE_SECRET, 'taken')
    const asTheOther = await signedPost(HEARTBEAT, other, { secret })
    expect(asTheOther.status).toBe(401)
    expect((await errorOf(asTheOther)).message).toContain("what 'npx copal nodes secret honest' makes of the")
    for (const path of [RECEIPTS, ANSWERS]) {
      const told = { nodeId: 'honest', receipts: [], tenant: 'x', key: 'a'.repeat(64), ttlMs: 1, body: '' }
      const more = { ...told, maskVersion: 0, contentType: 'x' }
      expect((await signedPost(path, more, { as: 'taken' })).status).toBe(401)
    }
    expect(await nodeOf('honest')).toMatchObject({ url: beforehand?.url, draining: false })
  })

  test('is not known by the secret that all nodes shared once', async () => {
    const shared = await signedPost(HEARTBEAT, heartbeatOf(taken, MODEL), { secret: TEST_NODE_SECRET })
    expect([shared.status, (await errorOf(shared)).code]).toEqual([401, 'invalid_signature'])
  })

  test('cannot take a call for its own that was signed for another', async () => {
    await (await ask((await limited({})).key, { model: MODEL, stream: true })).text()
    const { path, body, headers } = await lastCall()
    const call = {
      to: 'node',
      method: 'POST',
      path,
      body: new Uint8Array(new TextEncoder().encode(body)),
    } as const
    const header = headers[SIGNATURE_HEADER]
    const opens = async (nodeId: string, of: string, as = header) =>
      verify([await nodeSecret(TEST_NODE_SECRET, of)], { ...call, nodeId }, as, Date.now())
    await opens('honest', 'honest')
    await expect(opens('taken', 'taken')).rejects.toThrow("signed for node 'honest' and reached node 'taken'")
    const renamed = header?.replace('node=honest', 'node=taken')
    await expect(opens('taken', 'taken', renamed)).rejects.toThrow('does not match')
    await expect(opens('honest', 'taken')).rejects.toThrow('does not match')
  })
})

test('while the gateway’s secret is replaced nodes with either are known; then the new one alone', async () => {
  const next = 'node-secret-of-tomorrow-for-the-tests'
  const grace = { NODE_SECRET: next, NODE_SECRET_ALTERNATE: TEST_NODE_SECRET }
  const status = async (changes: Partial<Bindings>, gatewaySecret: string, path: string, value: object) =>
    (await tell(changes, await nodeSecret(gatewaySecret, 'honest'), path, value)).status
  expect(await status({}, next, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(401)
  for (const secret of [TEST_NODE_SECRET, next])
    expect(await status(grace, secret, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(200)
  expect(await status({ NODE_SECRET: next }, TEST_NODE_SECRET, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(
    401,
  )
  expect(await status({ NODE_SECRET: next }, next, HEARTBEAT, heartbeatOf(honest, MODEL))).toBe(200)
})

/** A call of node `honest`, or whose secret it is, to the gateway with other secrets. */
async function tell(
  changes: Partial<Bindings>,
  secret: string,
  path: string,
  value: object,
): Promise<Response> {
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(value)))
  const nodeId = secret.slice(0, secret.indexOf(':'))
  const headers = await signedHeaders(
    secret,
    { nodeId, to: 'gateway', method: 'POST', path, body },
    Date.now(),
  )
  const ctx = createExecutionContext()
  const response = await createApp().request(
    path,
    { method: 'POST', headers, body },
    { ...env, ...changes },
    ctx,
  )
  await waitOnExecutionContext(ctx)
  return response
}
