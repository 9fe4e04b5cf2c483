import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { nodeIdOfSecret, nodeSecret } from '@copal/shared/wire/node-secret.ts'

const GATEWAY_SECRET = '0123456789abcdef'.repeat(4)

test('the secret of a node names it, differs for each node, and is an HMAC-SHA256 under the gateway’s secret', async () => {
  const secret = await nodeSecret(GATEWAY_SECRET, 'node-1')
  const mac = createHmac('sha256', GATEWAY_SECRET).update('copal node secret 1\nnode-1').digest('hex')
  expect(secret).toBe(`node-1:${mac}`)
  expect(await nodeSecret(GATEWAY_SECRET, 'node-2')).not.toContain(mac)
  expect(await nodeSecret('another secret of the network', 'node-1')).not.toBe(secret)
})

test('a secret tells its node, and the gateway’s secret belongs to none', async () => {
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
