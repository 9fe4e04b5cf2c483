import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { LimitedAccount } from '../../../../gateway/src/contracts/limits.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { loseDatabase } from '../../support/faults/lost-database.ts'
import { receiptOf, sendHeartbeat, signedPost } from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey } from '../../support/requests/limited-requests.ts'

const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
let node: NodeDouble
beforeAll(async () => {
  node = await startNode('limits-1', [{ kind: 'answer', body: '{"ok":1}' }])
})
// A node without a heartbeat for long gets no requests.
beforeEach(() => sendHeartbeat(node, 'tiny'))

describe('tokens', () => {
  test('of the month that were used before the budget was set count', async () => {
    const { id, key } = await createLimitedKey({})
    await signedPost('/internal/nodes/receipts', {
      nodeId: node.id,
      receipts: [receiptOf(`before-${id}`, { account: id, promptTokens: 80, completionTokens: 20 })],
    })
    await adminJson('PATCH', `/keys/${id}`, { limits: { tokens_per_month: 150 } })
    expect((await ask(key)).status).toBe(429)
  })

  describe('of the month that are known only from receipts', () => {
    const used = async () => {
      const { id } = await createLimitedKey({})
      const receipt = receiptOf(`used-${id}`, { account: id, promptTokens: 80, completionTokens: 20 })
      await signedPost('/internal/nodes/receipts', { nodeId: node.id, receipts: [receipt] })
      const acquire = (requestId: string, limits: LimitedAccount['limits']) =>
        fleet().acquire({
          model: 'tiny',
          requestId: `${requestId}-${id}`,
          domain: 'default',
          promptTokens: 10,
          exclude: [],
          limits: {
            requestId: `${requestId}-${id}`,
            accounts: [{ kind: 'key', name: id, limits }],
            maxTokens: 30,
          },
        })
      return { id, acquire }
    }

    test('count also if other limits were set before the budget', async () => {
      const { id, acquire } = await used()
      expect((await acquire('a', { requestsPerMinute: 9 })).ok).toBe(true)
      await fleet().settle([{ requestId: `a-${id}`, tokens: 20, succeeded: true }])
      expect(await acquire('b', { tokensPerMonth: 150 })).toMatchObject({
        ok: false,
        rejection: { limit: 'month', remaining: 30 },
      })
    })

    test('count as soon as the database responds', async () => {
      const { acquire } = await used()
      const errors = loseDatabase()
      expect((await acquire('a', { tokensPerMonth: 150 })).ok).toBe(true)
      // The audit log of the heartbeat before may report the loss too.
      const ofUsage = errors.mock.calls.filter(([message]) => String(message).includes('monthly usage'))
      expect(ofUsage).toHaveLength(1)
      vi.restoreAllMocks()
      expect(await acquire('b', { tokensPerMonth: 150 })).toMatchObject({
        ok: false,
        rejection: { limit: 'month', remaining: 10 },
      })
    })
  })
})
