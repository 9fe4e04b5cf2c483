import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import {
  balancedWeights,
  selectionWeights,
  trafficWeights,
} from '../../../../gateway/src/adaptation/statistics/selection-weights.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { receiptOf } from '../../support/requests/gateway-requests.ts'

test('weights by traffic are shares with the mean 1, and a quiet domain keeps 1 % of the traffic', () => {
  const {
    code = 0,
    mail = 0,
    law = 0,
  } = trafficWeights(
    ['code', 'mail', 'law'],
    new Map([
      ['code', 300],
      ['mail', 100],
      ['other', 900],
    ]),
  )
  expect(code / mail).toBeCloseTo(3, 9)
  expect(law / code).toBeCloseTo(0.01 / 0.75, 9)
  expect((code + mail + law) / 3).toBeCloseTo(1, 9)
  expect(trafficWeights(['code'], new Map())).toEqual({})
})

test('balanced weights give known domains at least 60 % of the weight', () => {
  const known = ['books']
  expect(balancedWeights({ domains: ['books', 'code', 'mail', 'law'], known })).toEqual({
    books: expect.closeTo(2.4, 12) as number,
    code: expect.closeTo(1.6 / 3, 12) as number,
    mail: expect.closeTo(1.6 / 3, 12) as number,
    law: expect.closeTo(1.6 / 3, 12) as number,
  })
  expect(balancedWeights({ domains: ['books', 'code'], known })).toEqual({
    books: expect.closeTo(1.2, 12) as number,
    code: expect.closeTo(0.8, 12) as number,
  })
  // They have 60 % or more by equal weights already, or there is nothing to balance.
  expect(balancedWeights({ domains: ['books', 'mail', 'code'], known: ['books', 'mail'] })).toEqual({})
  expect(balancedWeights({ domains: ['code', 'mail'], known })).toEqual({})
  expect(balancedWeights({ domains: ['books'], known })).toEqual({})
})

test('the policy chooses equal weights, named ones, or those of the last 30 days of settled requests', async () => {
  const deps = testDeps()
  const domains = ['w-code', 'w-mail']
  const settle = (id: string, domain: string, atMs: number, changes = {}) =>
    insertReceipts(
      openDatabase(env.DB),
      'node-1',
      [{ ...receiptOf(id, { model: 'weights', domain }), ...changes }],
      'node',
      atMs,
    )
  await settle('w-1', 'w-code', Date.now())
  await settle('w-2', 'w-code', Date.now(), { promptTokens: 40 })
  await settle('w-3', 'w-mail', Date.now())
  await settle('w-4', 'w-mail', Date.now(), { finishReason: 'superseded' })
  await settle('w-5', 'w-mail', Date.now() - 31 * 24 * 60 * 60 * 1000)
  expect(await selectionWeights(deps, 'weights', { domains, known: [] }, 'equal')).toEqual({})
  expect(await selectionWeights(deps, 'weights', { domains, known: [] }, { 'w-code': 3 })).toEqual({
    'w-code': 3,
  })
  const weights = await selectionWeights(deps, 'weights', { domains, known: [] }, 'traffic')
  expect((weights['w-code'] ?? 0) / (weights['w-mail'] ?? 0)).toBeCloseTo(60 / 15, 9)
})
