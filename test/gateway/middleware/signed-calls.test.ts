import { createExecutionContext } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { BODY_HASH_HEADER, signedHeaders } from '@copal/shared/wire/signature.ts'
import { errorOf, ORIGIN } from '../support/requests/gateway-requests.ts'
import { TEST_NODE_SECRET } from '../support/setup/secrets.ts'

const path = '/internal/nodes/receipts'
const bytes = (text: string) => new Uint8Array(new TextEncoder().encode(text))
const good = bytes(JSON.stringify({ nodeId: 'node-1', receipts: [] }))
const secretOf = (nodeId: string) => nodeSecret(TEST_NODE_SECRET, nodeId)
const signing = async (secret?: string, nodeId = 'node-1', body = good) =>
  signedHeaders(
    secret ?? (await secretOf(nodeId)),
    { nodeId, to: 'gateway', method: 'POST', path, body },
    Date.now(),
  )
const call = (headers: Record<string, string>, body: Uint8Array<ArrayBuffer> | ReadableStream) =>
  exports.default.fetch(new Request(ORIGIN + path, { method: 'POST', headers, body }))

test('a call from a node is accepted only with the body that it was signed for', async () => {
  const headers = await signing()
  expect((await call(headers, good)).status).toBe(200)
  const response = await call(headers, bytes('{"another":1}'))
  expect([response.status, (await errorOf(response)).message]).toEqual([
    401,
    `The body does not match the hash in '${BODY_HASH_HEADER}'. Sign the body as it is sent.`,
  ])
})

test('the body of a call without a valid signature is not read', async () => {
  const { [BODY_HASH_HEADER]: hash, ...unhashed } = await signing()
  const strangers = [
    await signing('another secret of the network'),
    await signing(TEST_NODE_SECRET),
    await signing(await secretOf('node-2')),
    { [BODY_HASH_HEADER]: hash ?? '' },
    { ...unhashed, [BODY_HASH_HEADER]: '0'.repeat(64) },
    unhashed,
  ]
  for (const headers of strangers) {
    // This body never ends: reading it would hang.
    const endless = new ReadableStream({ start: (controller) => controller.enqueue(bytes('{')) })
    const response = await call(headers, endless)
    expect([response.status, (await errorOf(response)).code]).toEqual([401, 'invalid_signature'])
  }
})

test('calls from a revoked node are rejected, and those from other nodes accepted', async () => {
  const callAs = async (nodeId: string, COPAL_REVOKED_NODES: string) => {
    const body = bytes(JSON.stringify({ nodeId, receipts: [] }))
    const headers = await signing(await secretOf(nodeId), nodeId, body)
    const bindings = { ...env, COPAL_REVOKED_NODES }
    return createApp().request(path, { method: 'POST', headers, body }, bindings, createExecutionContext())
  }
  const response = await callAs('node-2', 'node-3, node-2')
  expect([response.status, (await errorOf(response)).message]).toEqual([
    401,
    "The secret of node 'node-2' was revoked by the gateway's COPAL_REVOKED_NODES. Give the node another name and " +
      "that name's secret: `npx copal nodes secret <node id>`.",
  ])
  expect((await callAs('node-1', 'node-3, node-2')).status).toBe(200)
  const malformed = await callAs('node-1', 'node-3;node-2')
  expect([malformed.status, (await errorOf(malformed)).message]).toEqual([
    500,
    expect.stringContaining("COPAL_REVOKED_NODES has 'node-3;node-2'; names of nodes are expected"),
  ])
})
