import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains, forgetDomain } from '../../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { NAMED_DOMAINS, sumDrift } from '../../../../../gateway/src/storage/db/queries/usage-total-queries.ts'
import { createKey, receiptOf } from '../../../support/requests/gateway-requests.ts'
import { sumUsage } from '../../../support/state/usage-sums.ts'

const db = openDatabase(env.DB)

describe('receipts of domains that clients invent', () => {
  let requests = 0
  const settle = (receipts: Partial<Receipt>[]) =>
    insertReceipts(
      db,
      'node-1',
      receipts.map((fields) => receiptOf(`made-up-${(requests += 1)}`, fields)),
      'node',
      1,
    )
  const made = (model: string, from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => ({ model, domain: `made-up-${from + index}` }))
  const usageOf = async (model: string) => (await sumUsage(db)).filter((row) => row.model === model)

  test('are counted by name for the first domains and together for all others, without a loss', async () => {
    const model = 'crowded'
    await settle(made(model, 100, 140))
    // A batch with more domains than there is room for fills the room.
    await settle([...made(model, 140, 200), ...made(model, 140, 200)])
    await settle([...made(model, 130, 150), ...made(model, 500, 520)])
    const usage = await usageOf(model)
    expect(usage).toHaveLength(NAMED_DOMAINS + 1)
    expect(usage.map(({ domain }) => domain)).toEqual([
      OTHER_DOMAINS,
      ...made(model, 100, 100 + NAMED_DOMAINS).map(({ domain }) => domain),
    ])
    expect(usage.find(({ domain }) => domain === 'made-up-140')?.requests).toBe(3)
    expect(usage[0]).toMatchObject({ requests: 2 * (200 - 164) + 20 })
    expect(usage.reduce((sum, row) => sum + row.requests, 0)).toBe(40 + 120 + 40)
  })

  test('leave room for the names of other tenants and of registered domains', async () => {
    const model = 'crowded-by-one'
    const drift = { tokens: 4, nllMasked: 10, nllDense: 8 }
    const { id: account } = await createKey({ tenant: 'quiet' })
    await settle(made(model, 0, 100))
    await ensureDomains(db, ['registered-late'], 1)
    await settle([
      { model, domain: 'registered-late', drift },
      { model, domain: 'of-the-quiet', account },
    ])
    const names = (await usageOf(model)).map(({ tenant, domain }) => [tenant, domain])
    expect(names).toContainEqual([null, 'registered-late'])
    expect(names).toContainEqual(['quiet', 'of-the-quiet'])
    expect(names).toHaveLength(NAMED_DOMAINS + 3)
    expect(await sumDrift(db, { model })).toMatchObject([{ domain: 'registered-late', tokens: 4 }])
  })

  test('are counted once if a receipt replaces an estimate', async () => {
    const model = 'crowded-estimate'
    await settle(made(model, 0, NAMED_DOMAINS))
    const late = { model, domain: 'made-up-late' }
    const estimate = receiptOf('made-up-estimate', { ...late, completionTokens: 0, finishReason: 'error' })
    await insertReceipts(db, 'node-1', [estimate], 'estimate', 1)
    await insertReceipts(db, 'node-1', [receiptOf('made-up-estimate', late)], 'node', 2)
    expect((await usageOf(model)).filter(({ domain }) => domain === OTHER_DOMAINS)).toMatchObject([
      { finishReason: 'stop', requests: 1, completionTokens: 5 },
    ])
  })

  test('lose their totals when the domains are deleted, which frees their names', async () => {
    const model = 'crowded-deleted'
    await settle(made(model, 0, 100))
    await forgetDomain(db, 'made-up-5')
    expect((await usageOf(model)).map(({ domain }) => domain)).not.toContain('made-up-5')
    await settle([{ model, domain: 'made-up-next' }])
    expect((await usageOf(model)).map(({ domain }) => domain)).toContain('made-up-next')
  })
})
