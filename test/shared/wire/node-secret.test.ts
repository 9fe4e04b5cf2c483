import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { nodeIdOfSecret, nodeSecret } from '@copal/shared/wire/node-secret.ts'

const GATEWAY_SECRET = '0123456789abcdef'.repeat(4)

test('a node’s secret names it, is another for each, and is HMAC-SHA256 under the gateway’s', async () => {
  const secret = await nodeSecret(GATEWAY_SECRET, 'node-1')
  const mac = createHmac('sha256', GATEWAY_SECRET).update('copal node secret 1\nnode-1').digest('hex')
  expect(secret).toBe(`node-1:${mac}`)
  expect(await nodeSecret(GATEWAY_SECRET, 'node-2')).not.toContain(mac)
  expect(await nodeSecret('another secret of the network', 'node-1')).not.toBe(secret)
})

test('of a secret it is told whose it is, and that the gateway’s is none of a node', async () => {
  expect(nodeIdOfSecret(await nodeSecret(GATEWAY_SECRET, 'Node.7_b'))).toBe('Node.7_b')
  for (const other of [
    GATEWAY_SECRET,
    '',
    `:${GATEWAY_SECRET}`,
    `a b:${GATEWAY_SECRET}`,
    `a:${GATEWAY_SECRET}0`,
  ])
    expect(nodeIdOfSecret(other)).toBeUndefined()
})
