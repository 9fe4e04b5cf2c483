import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { sha256, signedHeaders } from '@copal/shared/wire/signature.ts'
import { createApp } from '../../../gateway/src/app.ts'
import { UsedSignatures } from '../../../gateway/src/fleet/object/used-signatures.ts'
import { heartbeatOf } from '../../support/doubles/heartbeat.ts'
import {
  errorOf,
  ORIGIN,
  receiptOf,
  sendHeartbeat,
  signingTime,
} from '../support/requests/gateway-requests.ts'
import { withAttestations } from '../support/requests/attested-reports.ts'
import { TEST_NODE_SECRET } from '../support/setup/secrets.ts'

const node = { id: 'node-1', url: 'http://127.0.0.1:1' }
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))

/** Signs a call of `node-1` once, and returns a function that sends it, each time to an isolate of its own. */
async function record(path: string, told: object | Uint8Array<ArrayBuffer>, method = 'POST') {
  const body =
    told instanceof Uint8Array ? told : new Uint8Array(new TextEncoder().encode(JSON.stringify(told)))
  const signed = { nodeId: node.id, to: 'gateway', method, path, body } as const
  const headers = await signedHeaders(await nodeSecret(TEST_NODE_SECRET, node.id), signed, signingTime())
  return async () => {
    const context = createExecutionContext()
    const sent = new Request(ORIGIN + path, {
      method,
      headers: { ...headers, 'content-length': String(body.byteLength) },
      body,
    })
    const response = await createApp().fetch(sent, env, context)
    await waitOnExecutionContext(context)
    return response
  }
}

const shown = async (response: Response) => [response.status, (await errorOf(response)).code]
const nodeView = async () => (await fleet().snapshot()).nodes.find(({ id }) => id === node.id)

test('a heartbeat is accepted once, over isolates and restarts of the fleet', async () => {
  const draining = await record(
    '/internal/nodes/heartbeat',
    heartbeatOf(node, 'replayed', { draining: true }),
  )
  expect((await draining()).status).toBe(200)
  await sendHeartbeat(node, 'replayed')
  expect(await shown(await draining())).toEqual([401, 'invalid_signature'])
  expect((await nodeView())?.draining).toBe(false)
  await runInDurableObject(fleet(), (_, state) => state.abort('reset by a test')).catch(() => undefined)
  expect(await shown(await draining())).toEqual([401, 'invalid_signature'])
  expect((await nodeView())?.draining).toBe(false)
  await sendHeartbeat(node, 'replayed')
})

test('receipts, responses for the cache and uploads are accepted once', async () => {
  const requestId = `req_${crypto.randomUUID()}`
  const receipts = await withAttestations({ nodeId: node.id, receipts: [receiptOf(requestId)] })
  const answer = await withAttestations({
    nodeId: node.id,
    tenant: 'default',
    key: 'a'.repeat(64),
    ttlMs: 60_000,
    maskVersion: 0,
    contentType: 'text/event-stream',
    body: 'data: [DONE]\n\n',
  })
  const part = new Uint8Array(new TextEncoder().encode('a part of a mask'))
  const hash = await sha256(part)
  const calls = [
    await record('/internal/nodes/receipts', receipts),
    await record('/internal/nodes/answers', answer),
    await record(`/internal/masks/${hash}/parts/${hash}`, part, 'PUT'),
  ]
  for (const call of calls) {
    expect((await call()).ok).toBe(true)
    expect(await shown(await call())).toEqual([401, 'invalid_signature'])
  }
  // The same receipts, signed anew: the node did not get the response.
  expect(await (await (await record('/internal/nodes/receipts', receipts))()).json()).toEqual({ settled: 0 })
})

test('signatures are remembered while they are valid, for each node', () => {
  const used = new UsedSignatures()
  const use = { nodeId: 'a', mac: 'm', signedAtMs: 60_000 }
  expect(used.use(use, 0)).toBe(true)
  expect(used.use(use, 120_000)).toBe(false)
  expect(used.use({ ...use, nodeId: 'b' }, 120_000)).toBe(true)
  expect(used.lastSignedMs('a')).toBe(60_000)
  const restarted = new UsedSignatures()
  restarted.restore('a', 60_000)
  expect(restarted.use(use, 120_000)).toBe(false)
  expect(restarted.use({ ...use, mac: 'n', signedAtMs: 60_001 }, 120_000)).toBe(true)
})
