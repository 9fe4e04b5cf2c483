/** Tests that periods equal a recomputation from the same receipts, in whatever order and however often these arrive. */
import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import { SERIES_WIDTHS } from '@copal/shared/wire/admin-series.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import { scoringOutcome } from '@copal/shared/wire/receipts.ts'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains, forgetDomain } from '../../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  insertReceipts,
  type StoredReceipt,
} from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { storeRequestDomains } from '../../../../../gateway/src/storage/db/queries/request-domain-queries.ts'
import { NAMED_DOMAINS } from '../../../../../gateway/src/storage/db/queries/usage-total-queries.ts'
import { trafficPeriods } from '../../../../../gateway/src/storage/db/schema/periods.ts'
import { seededRandom } from '../../../../../gateway/src/adaptation/discovery/seeded-random.ts'
import { receiptOf } from '../../../support/requests/gateway-requests.ts'
import { eq } from 'drizzle-orm'

const db = openDatabase(env.DB)
const DAY_MS = 86_400_000

type PeriodRow = typeof trafficPeriods.$inferSelect
type Origin = 'node' | 'estimate'

/** Something that happens to the gateway. */
type Happening =
  | { kind: 'receipts'; atMs: number; origin: Origin; receipts: StoredReceipt[] }
  | { kind: 'found'; atMs: number; found: { requestId: string; domain: string }[] }

async function apply(happening: Happening): Promise<void> {
  if (happening.kind === 'found') await storeRequestDomains(db, happening.found, happening.atMs)
  else await insertReceipts(db, 'node-1', happening.receipts, happening.origin, happening.atMs)
}

interface Settled {
  receipt: StoredReceipt
  domain: string
  estimated: boolean
  atMs: number
}

/** Returns the receipts that are settled after all happenings, by the rules of settlement. */
function settle(happenings: readonly Happening[]): Settled[] {
  const settled = new Map<string, Settled>()
  const found = new Map<string, string>()
  for (const happening of happenings) {
    if (happening.kind === 'found') {
      for (const { requestId, domain } of happening.found) {
        if (!found.has(requestId)) found.set(requestId, domain)
        const known = settled.get(requestId)
        if (known && !known.estimated && known.receipt.finishReason !== 'superseded')
          known.domain = found.get(requestId) ?? domain
      }
      continue
    }
    for (const receipt of happening.receipts) {
      const known = settled.get(receipt.requestId)
      const estimated = happening.origin === 'estimate'
      if (known && !(known.estimated && !estimated)) continue
      const domain = found.get(receipt.requestId) ?? receipt.domain
      const superseded = known?.receipt.finishReason === 'superseded'
      const finishReason = superseded ? 'superseded' : receipt.finishReason
      settled.set(receipt.requestId, {
        receipt: { ...receipt, finishReason },
        domain,
        estimated,
        atMs: happening.atMs,
      })
    }
  }
  return [...settled.values()]
}

const bucketOf = (value: number, bounds: readonly number[]) => {
  const bucket = bounds.findIndex((bound) => value <= bound)
  return bucket < 0 ? bounds.length : bucket
}

/** Sums settled requests by domain, mask and period of one width, in the names of the table's columns. */
function recompute(settled: readonly Settled[], width: number): Map<string, Map<string, number>> {
  const periods = new Map<string, Map<string, number>>()
  for (const { receipt, domain, estimated, atMs } of settled) {
    const start = Math.floor(atMs / 1000 / width) * width
    const key = [domain, start, receipt.maskVersion].join(' ')
    const sums = periods.get(key) ?? new Map<string, number>()
    periods.set(key, sums)
    const add = (column: string, value: number) => sums.set(column, (sums.get(column) ?? 0) + value)
    const addOfNamed = (column: string, value: number) => add(column, receipt.namesWeights ? value : 0)
    addOfNamed('namedRequests', 1)
    addOfNamed('namedFailed', ['error', 'superseded'].includes(receipt.finishReason) ? 1 : 0)
    if (receipt.finishReason === 'superseded') {
      add('superseded', 1)
      continue
    }
    add('requests', 1)
    add('failed', receipt.finishReason === 'error' ? 1 : 0)
    add('promptTokens', receipt.promptTokens)
    add('completionTokens', receipt.completionTokens)
    addOfNamed('namedPromptTokens', receipt.promptTokens)
    addOfNamed('namedCompletionTokens', receipt.completionTokens)
    if (receipt.timeToFirstTokenMs !== null) {
      add('firstTokenSumMs', receipt.timeToFirstTokenMs)
      addOfNamed('namedFirstTokenSumMs', receipt.timeToFirstTokenMs)
      addOfNamed('namedFirstTokens', 1)
      add(`firstToken${bucketOf(receipt.timeToFirstTokenMs, FIRST_TOKEN_BOUNDS_MS)}`, 1)
    }
    if (!estimated) {
      add('durationSumMs', receipt.totalMs)
      addOfNamed('namedDurationSumMs', receipt.totalMs)
      addOfNamed('namedDurations', 1)
      add(`duration${bucketOf(receipt.totalMs, DURATION_BOUNDS_MS)}`, 1)
    }
    const reasons = {
      not_sampled: 'notSampled',
      too_short: 'tooShort',
      budget: 'overBudget',
      evicted: 'evicted',
      failed: 'scoringFailed',
    }
    if (receipt.scoring && receipt.scoring !== 'scored') add(reasons[receipt.scoring], 1)
    if (!receipt.drift || receipt.drift.tokens === 0) continue
    const { tokens, nllMasked, nllDense } = receipt.drift
    const [masked, dense] = [nllMasked / tokens, nllDense / tokens]
    add('scoredRequests', 1)
    add('scoredTokens', tokens)
    add('nllMasked', nllMasked)
    add('nllDense', nllDense)
    addOfNamed('namedScoredTokens', tokens)
    addOfNamed('namedNllMasked', nllMasked)
    addOfNamed('namedNllDense', nllDense)
    add('maskedSum', masked)
    add('maskedSquares', masked ** 2)
    add('denseSum', dense)
    add('denseSquares', dense ** 2)
    add('gapSum', masked - dense)
    add('gapSquares', (masked - dense) ** 2)
  }
  return periods
}

/** The stored periods of a model of one width, in the same form; periods that a correction emptied are left out. */
async function stored(model: string, width: number): Promise<Map<string, Map<string, number>>> {
  const rows = await db.select().from(trafficPeriods).where(eq(trafficPeriods.model, model))
  return new Map(
    rows
      .filter((row) => row.width === width && (row.requests > 0 || row.superseded > 0))
      .map((row) => [[row.domain, row.start, row.maskVersion].join(' '), sumsOf(row)]),
  )
}

function sumsOf({ model, domain, width, start, maskVersion, ...sums }: PeriodRow) {
  expect([model, domain, width, start, maskVersion]).not.toContain(null)
  return new Map(Object.entries(sums))
}

type Periods = ReadonlyMap<string, ReadonlyMap<string, number>>

function expectEqual(actual: Periods, expected: Periods): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort())
  const differences = [...actual].flatMap(([key, sums]) =>
    [...sums].flatMap(([column, value]) => {
      const wanted = expected.get(key)?.get(column) ?? 0
      return Math.abs(value - wanted) <= 1e-6 ? [] : [{ key, column, value, wanted }]
    }),
  )
  expect(differences).toEqual([])
}

/** Draws what happens: batches of receipts, some delivered twice, estimates that receipts replace, and domains found late. */
function draw(model: string, seed: number): Happening[] {
  const random = seededRandom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <T>(values: readonly T[], otherwise: T): T => values[below(values.length)] ?? otherwise
  const domains = ['legal', 'support', 'code', 'unregistered']
  const receiptFor = (request: number): StoredReceipt => {
    const tokens = below(4) === 0 ? 0 : 16 + below(240)
    const scoring = pick([...scoringOutcome.options, undefined], undefined)
    const exact = (1 + 3 * random()) * tokens
    // Whole numbers too, which SQLite divides otherwise.
    const dense = below(2) === 0 ? exact : Math.round(exact)
    return {
      ...receiptOf(`${model}-${request}`, { model, domain: pick(domains, '') }),
      maskVersion: below(3),
      promptTokens: below(1000),
      completionTokens: below(300),
      finishReason: pick(['stop', 'length', 'cancelled', 'refused', 'error', 'superseded'], 'stop'),
      timeToFirstTokenMs: below(5) === 0 ? null : 10 ** (6 * random()),
      totalMs: 10 ** (6 * random()),
      drift:
        scoring === 'scored'
          ? { tokens, nllDense: dense, nllMasked: dense + below(2) * tokens * (random() - 0.3) }
          : null,
      scoring,
      namesWeights: pick([true, false, undefined], undefined),
    }
  }
  const startMs = 1_790_000_000_000 + below(DAY_MS)
  let atMs = startMs
  const happenings: Happening[] = []
  for (let step = 0; step < 40; step += 1) {
    atMs += below(3) === 0 ? below(DAY_MS / 3) : below(90_000)
    const requests = Array.from({ length: 1 + below(12) }, () => below(150))
    if (below(4) === 0)
      happenings.push({
        kind: 'found',
        atMs,
        found: requests.map((request) => ({ requestId: `${model}-${request}`, domain: pick(domains, '') })),
      })
    else {
      const origin = below(3) === 0 ? 'estimate' : 'node'
      const receipts = requests.map(receiptFor).map((receipt) =>
        origin === 'node'
          ? receipt
          : {
              ...receipt,
              finishReason: 'error' as const,
              timeToFirstTokenMs: null,
              drift: null,
              scoring: undefined,
              namesWeights: undefined,
            },
      )
      const batch: Happening = { kind: 'receipts', atMs, origin, receipts }
      happenings.push(batch)
      if (below(3) === 0) happenings.push({ ...batch, atMs: atMs + below(70_000) })
    }
  }
  return happenings
}

describe('the periods of receipts', () => {
  test.each([1, 2, 3])(
    'equal sums of what is settled, at each width, whatever arrives twice, late or under another domain (seed %i)',
    async (seed) => {
      await ensureDomains(db, ['legal', 'support', 'code'], 1)
      const model = `random-${seed}`
      const happenings = draw(model, seed)
      for (const happening of happenings) await apply(happening)
      const settled = settle(happenings)
      expect(settled.some(({ estimated }) => estimated)).toBe(true)
      for (const width of SERIES_WIDTHS) expectEqual(await stored(model, width), recompute(settled, width))
    },
  )

  test('are the same in whatever order and batches the receipts arrive', async () => {
    const random = seededRandom(7)
    const receipts = draw('order', 5).flatMap((happening) =>
      happening.kind === 'receipts' && happening.origin === 'node' ? happening.receipts : [],
    )
    const once = [...new Map(receipts.map((receipt) => [receipt.requestId, receipt])).values()]
    const timed = once.map((receipt) => ({
      receipt,
      atMs: 1_790_000_000_000 + Math.floor(random() * 4 * DAY_MS),
    }))
    const settleAll = async (model: string, order: typeof timed) => {
      for (const { receipt, atMs } of order) {
        const own = { ...receipt, model, requestId: `${model}-${receipt.requestId}` }
        await insertReceipts(db, 'node-1', [own], 'node', atMs)
      }
    }
    await settleAll('forward', timed)
    await settleAll('backward', timed.toReversed())
    for (const width of SERIES_WIDTHS)
      expectEqual(await stored('backward', width), await stored('forward', width))
    expect((await stored('forward', 86_400)).size).toBeGreaterThan(20)
  })

  test('of further domains are counted together, and corrected where they were counted', async () => {
    const model = 'crowded'
    const at = 1_790_000_000_000
    const named = (index: number) => `made-up-${String(index).padStart(3, '0')}`
    const settleAt = (atMs: number, ids: readonly number[], origin: Origin = 'node') =>
      insertReceipts(
        db,
        'node-1',
        ids.map((id) => receiptOf(`${model}-${id}`, { model, domain: named(id) })),
        origin,
        atMs,
      )
    const all = Array.from({ length: NAMED_DOMAINS + 6 }, (_, index) => index)
    await settleAt(at, all.slice(0, -1))
    await settleAt(at + 1, all.slice(-1), 'estimate')
    const requests = async () =>
      new Map(
        [...(await stored(model, 86_400))].map(([key, sums]) => [key.split(' ')[0], sums.get('requests')]),
      )
    expect((await requests()).size).toBe(NAMED_DOMAINS + 1)
    expect((await requests()).get(OTHER_DOMAINS)).toBe(6)
    // They get names later, so what moves and what is replaced was counted under none.
    const [moved = 0, replaced = 0] = all.slice(-2)
    await ensureDomains(db, [named(moved), named(replaced)], 1)
    await settleAt(
      at + 60_000,
      [moved + 1000, replaced + 1000].map((id) => id),
    )
    await settleAt(at + 61_000, [replaced])
    await storeRequestDomains(db, [{ requestId: `${model}-${moved}`, domain: named(0) }], at + 62_000)
    expect((await requests()).get(OTHER_DOMAINS)).toBe(6 + 2 - 2)
    expect((await requests()).get(named(0))).toBe(2)
    expect((await requests()).get(named(replaced))).toBe(1)
    expect([...(await requests()).values()].reduce((sum = 0, count = 0) => sum + count, 0)).toBe(
      all.length + 2,
    )
  })

  test('that were deleted with their domain stay deleted when a receipt replaces an estimate', async () => {
    const model = 'forgotten'
    const at = 1_790_000_000_000
    const one = receiptOf('forgotten-1', { model, domain: 'short-lived' })
    await insertReceipts(db, 'node-1', [one], 'estimate', at)
    await forgetDomain(db, 'short-lived')
    expect((await stored(model, 60)).size).toBe(0)
    await insertReceipts(db, 'node-1', [one], 'node', at + 3_600_000)
    const rows = await db.select().from(trafficPeriods).where(eq(trafficPeriods.model, model))
    expect(rows.every((row) => row.requests === 1)).toBe(true)
    // The day that both are in holds nothing of the estimate.
    expect((await stored(model, 60)).size).toBe(1)
  })
})
