import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { storeRequestDomains } from '../../../../gateway/src/storage/db/queries/request-domain-queries.ts'
import { trafficPeriods } from '../../../../gateway/src/storage/db/schema/periods.ts'
import { boundedReceipt, boundedScore } from '../../../../gateway/src/usage/settlement/bounded-receipt.ts'
import { receiptOf } from '../../support/requests/gateway-requests.ts'

const HUGE = receiptOf('req_huge', {
  queueMs: -1,
  timeToFirstTokenMs: 1e308,
  totalMs: 1e308,
  drift: { tokens: 10, nllMasked: 1e308, nllDense: -1e308 },
})

test('a receipt of an honest node stays as it is', () => {
  const receipt = receiptOf('req_plain', { drift: { tokens: 10, nllMasked: 31.5, nllDense: 30 } })
  expect(boundedReceipt(receipt)).toEqual(receipt)
  expect(boundedReceipt(receiptOf('req_null', { timeToFirstTokenMs: null }))).toMatchObject({
    timeToFirstTokenMs: null,
    drift: null,
  })
})

test('receipts with absurd measurements can be moved to another domain, and leave the sums of others finite', async () => {
  const db = openDatabase(env.DB)
  await ensureDomains(db, ['default', 'legal'], 1)
  const plain = receiptOf('req_other', { drift: { tokens: 10, nllMasked: 32, nllDense: 30 } })
  await insertReceipts(db, 'node-1', [boundedReceipt(HUGE), plain], 'node', 60_000)
  await storeRequestDomains(db, [{ requestId: 'req_huge', domain: 'legal' }], 61_000)
  const rows = await db.select().from(trafficPeriods)
  expect(rows.filter(({ width }) => width === 60)).toMatchObject([
    { domain: 'default', requests: 1, durationSumMs: 40 },
    { domain: 'legal', requests: 1, scoredRequests: 1, denseSum: 0, maskedSum: 1_000 },
  ])
  const own = rows.find(({ width, domain }) => width === 60 && domain === 'default')
  expect(own?.gapSquares).toBeCloseTo(0.04, 6)
})

test('the losses of a shadow are bounded alike', () => {
  const score = {
    prompt: { tokens: 2, nll: 1e308, nllShadow: 4 },
    answer: { tokens: 0, nll: 1, nllShadow: -1 },
  }
  expect(boundedScore(score)).toEqual({
    prompt: { tokens: 2, nll: 2_000, nllShadow: 4 },
    answer: { tokens: 0, nll: 0, nllShadow: 0 },
  })
})
