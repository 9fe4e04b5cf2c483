/** Tests that the domain that is found for a request reaches its receipt, its scores and all sums, in either order. */
import { env } from 'cloudflare:workers'
import { beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { sumTokensByDomain } from '../../../../../gateway/src/storage/db/queries/period-queries.ts'
import { insertReceipts } from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { storeRequestDomains } from '../../../../../gateway/src/storage/db/queries/request-domain-queries.ts'
import {
  insertShadowScores,
  sumShadowScores,
} from '../../../../../gateway/src/storage/db/queries/shadow-score-queries.ts'
import { findModel, type ModelRow } from '../../../../../gateway/src/storage/db/queries/model-queries.ts'
import { sumTokensUnder } from '../../../../../gateway/src/storage/db/queries/trigger-queries.ts'
import { sumDrift } from '../../../../../gateway/src/storage/db/queries/usage-total-queries.ts'
import { UNCOUNTED } from '../../../../../gateway/src/calls/call-budget.ts'
import { deleteOldScores } from '../../../../../gateway/src/storage/retention.ts'
import { createKey, get, receiptOf, sendHeartbeat } from '../../../support/requests/gateway-requests.ts'
import { sumUsage } from '../../../support/state/usage-sums.ts'

const db = openDatabase(env.DB)
const drift = { tokens: 4, nllMasked: 10, nllDense: 8 }
let account: string

beforeAll(async () => {
  account = (await createKey({ tenant: 'acme' })).id
  await ensureDomains(db, ['default', 'legal', 'code'], 1)
})

const settle = (model: string, ids: string[], changes: object = {}, origin: 'node' | 'estimate' = 'node') =>
  insertReceipts(
    db,
    'node-1',
    ids.map((id) => receiptOf(`${model}-${id}`, { model, account, drift, ...changes })),
    origin,
    Date.now(),
  )
const find = (model: string, ids: string[], domain = 'legal') =>
  storeRequestDomains(
    db,
    ids.map((id) => ({ requestId: `${model}-${id}`, domain })),
    Date.now(),
  )

/** Everything that reads domains: tokens by receipts and by sums, and scored tokens. */
async function figuresOf(model: string) {
  const nonZero = (sums: Map<string, number>) =>
    Object.fromEntries([...sums].filter(([, tokens]) => tokens !== 0))
  return {
    periods: nonZero(await sumTokensByDomain(db, model, { fromMs: 0, nowMs: Date.now() })),
    sums: nonZero(await sumTokensUnder(db, model, [0])),
    drift: Object.fromEntries(
      (await sumDrift(db, { model })).map(({ domain, tokens, requests }) => [domain, { tokens, requests }]),
    ),
  }
}

async function modelRow(model: string): Promise<ModelRow> {
  await sendHeartbeat({ id: 'node-1', url: 'http://127.0.0.1:9' }, model)
  const row = await findModel(db, model)
  if (!row) throw new Error(`the model '${model}' is unknown`)
  return row
}

/** Figures where each request has 15 tokens, of which 4 are scored. */
const figures = (requests: Record<string, number>) => {
  const each = <T>(value: (count: number) => T) =>
    Object.fromEntries(Object.entries(requests).map(([domain, count]) => [domain, value(count)]))
  const tokens = each((count) => 15 * count)
  return { periods: tokens, sums: tokens, drift: each((count) => ({ tokens: 4 * count, requests: count })) }
}

describe('the domain that is found for a request', () => {
  test('is that of a receipt that arrives later, however often both are delivered', async () => {
    const model = 'found-first'
    await find(model, ['a'])
    await find(model, ['a'])
    await settle(model, ['a', 'b'])
    await settle(model, ['a', 'b'])
    await find(model, ['a'])
    expect(await figuresOf(model)).toEqual(figures({ default: 1, legal: 1 }))
  })

  test('takes the figures of a receipt that was stored before, once, and no total changes', async () => {
    const model = 'settled-first'
    await settle(model, ['a', 'b', 'c'])
    expect(await figuresOf(model)).toEqual(figures({ default: 3 }))
    await find(model, ['a', 'b'])
    await find(model, ['b', 'a'])
    await settle(model, ['a', 'b'])
    expect(await figuresOf(model)).toEqual(figures({ default: 1, legal: 2 }))
    const usage = (await sumUsage(db, 'acme')).filter((row) => row.model === model)
    const total = (of: 'requests' | 'promptTokens' | 'completionTokens') =>
      usage.reduce((sum, row) => sum + row[of], 0)
    expect([total('requests'), total('promptTokens'), total('completionTokens')]).toEqual([3, 30, 15])
  })

  test('is the first that was found, where a later delivery finds another', async () => {
    const model = 'found-twice'
    await settle(model, ['a'])
    await find(model, ['a'])
    await find(model, ['a'], 'code')
    expect(await figuresOf(model)).toEqual(figures({ legal: 1 }))
  })

  test('is that of the attempt that answered, and superseded ones are counted nowhere', async () => {
    const model = 'found-retry'
    await settle(model, ['a'], { finishReason: 'superseded' })
    await settle(model, ['a.2'])
    await find(model, ['a', 'b'])
    await settle(model, ['b.2'])
    expect(await figuresOf(model)).toEqual(figures({ legal: 2 }))
  })

  test('leaves an estimate where it is counted, and is that of the receipt that replaces it', async () => {
    const model = 'found-estimate'
    await settle(model, ['a'], { finishReason: 'error' }, 'estimate')
    await find(model, ['a'])
    expect(await figuresOf(model)).toEqual(figures({ default: 1 }))
    await settle(model, ['a'])
    await settle(model, ['a'])
    await find(model, ['a'])
    expect(await figuresOf(model)).toEqual(figures({ legal: 1 }))
    const estimated = (await sumUsage(db)).filter((row) => row.model === model && row.finishReason !== 'stop')
    expect(estimated).toEqual([])
  })

  test('is that of the scores of a shadow, before and after', async () => {
    const model = 'found-scores'
    const score = (id: string) => ({
      requestId: `${model}-${id}`,
      shadowVersion: 2,
      model,
      domain: 'default',
      maskVersion: 1,
      prompt: { tokens: 4, nll: 8, nllShadow: 7 },
      answer: { tokens: 0, nll: 0, nllShadow: 0 },
    })
    await insertShadowScores(db, [score('before'), score('other')], Date.now())
    await find(model, ['before', 'after'])
    await insertShadowScores(
      db,
      ['after', ...Array.from({ length: 9 }, (_, at) => `many-${at}`)].map(score),
      Date.now(),
    )
    const { results } = await env.DB.prepare(
      'select domain, count(*) scores from shadow_scores where model = ? group by domain order by domain',
    )
      .bind(model)
      .all()
    expect(results).toEqual([
      { domain: 'default', scores: 10 },
      { domain: 'legal', scores: 2 },
    ])
    const trial = { version: 2, share: 1, beside: 1, sinceMs: 0 }
    const shadowed = { ...(await modelRow(model)), activeVersion: 1, shadow: trial }
    const sums = await sumShadowScores(db, [shadowed])
    expect(sums).toMatchObject([
      { domain: 'default', requests: 10, promptTokens: 40, promptNll: 80, promptNllShadow: 70 },
      { domain: 'legal', requests: 2, promptTokens: 8, promptNll: 16, promptNllShadow: 14 },
    ])
    // Delivered again, and found again.
    await insertShadowScores(db, [score('before'), score('after'), score('other')], Date.now())
    await find(model, ['before', 'after'])
    expect(await sumShadowScores(db, [shadowed])).toEqual(sums)
  })

  test('lowers no counter of /metrics: what moved is a gauge that is zero over all domains', async () => {
    const model = 'found-metrics'
    const read = async (name: string) => {
      const lines = (await (await get('/metrics')).text()).split('\n')
      return lines.filter((line) => line.startsWith(`${name}{`) && line.includes(`"${model}"`))
    }
    const labels = (domain: string) => `model="${model}",domain="${domain}",mask_version="0"`
    await settle(model, ['a', 'b'])
    const counters = ['copal_requests_total', 'copal_prompt_tokens_total', 'copal_drift_tokens_total']
    const before = await Promise.all(counters.map(read))
    await find(model, ['a'])
    expect(await Promise.all(counters.map(read))).toEqual(before)
    expect(before[0]).toEqual([`copal_requests_total{${labels('default')},outcome="stop"} 2`])
    expect(await read('copal_requests_moved')).toEqual([
      `copal_requests_moved{${labels('default')}} -1`,
      `copal_requests_moved{${labels('legal')}} 1`,
    ])
    expect(await read('copal_tokens_moved')).toHaveLength(2)
  })

  test('is forgotten after a day', async () => {
    const count = () => env.DB.prepare('select count(*) n from request_domains').first<number>('n')
    await deleteOldScores({ calls: UNCOUNTED, db, nowMs: () => Date.now() + 23 * 3600 * 1000 })
    expect(await count()).toBeGreaterThan(0)
    await deleteOldScores({ calls: UNCOUNTED, db, nowMs: () => Date.now() + 25 * 3600 * 1000 })
    expect(await count()).toBe(0)
  })
})
