import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { AlertsReport, DetectorsReport } from '@copal/shared/wire/admin-alerts.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { advanceDetectors } from '../../../../../gateway/src/adaptation/drift/detectors/advance-detectors.ts'
import { missingObservations } from '../../../../../gateway/src/adaptation/drift/detectors/missing-observations.ts'
import { OBSERVATIONS_PER_MINUTE } from '../../../../../gateway/src/adaptation/drift/detectors/signals.ts'
import { summariseDomains } from '../../../../../gateway/src/dashboard/summarise-domains.ts'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import {
  findDetectorCursor,
  listDetectorStates,
  listDetectorStatistics,
} from '../../../../../gateway/src/storage/db/queries/detector-queries.ts'
import { ensureDomains, forgetDomain } from '../../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'
import { adminJson, SimulatedNode, testDeps } from '../../../support/doubles/simulated-node.ts'
import { receiptOf } from '../../../support/requests/gateway-requests.ts'
import { activate, seedMasks } from '../../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
const MINUTE_MS = 60_000
const TOKENS = 100

/** A model with a mask and a domain, and a clock in whole minutes since its detectors began. */
async function modelWithTraffic(model: string) {
  await new SimulatedNode(`${model}-1`, model).beat()
  await seedMasks(model, [1, 2])
  await ensureDomains(db, [`${model}-legal`], 0)
  const startMs = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS
  const random = createRandom(7)
  let sent = 0
  /** Stores receipts of one minute, and returns them. */
  async function store(
    minute: number,
    count: number,
    {
      dense = 3,
      gap = 0.3,
      maskVersion = 1,
      ...changes
    }: { dense?: number; gap?: number } & Partial<Receipt> = {},
  ): Promise<Receipt[]> {
    const noise = normals(random, 2 * count, 0, 1)
    const receipts = Array.from({ length: count }, (_, index): Receipt => {
      const nllDense = TOKENS * (dense + 0.4 * (noise[2 * index] ?? 0))
      const nllMasked = nllDense + TOKENS * (gap + 0.1 * (noise[2 * index + 1] ?? 0))
      sent += 1
      return receiptOf(`${model}-request-${sent}`, {
        model,
        domain: `${model}-legal`,
        maskVersion,
        drift: { tokens: TOKENS, nllMasked, nllDense },
        ...changes,
      })
    })
    await insertReceipts(db, `${model}-1`, receipts, 'node', startMs + minute * MINUTE_MS + 1)
    return receipts
  }
  /** Stores eight receipts in each of some minutes. */
  async function during(from: number, to: number, losses: Parameters<typeof store>[2] = {}): Promise<void> {
    for (let minute = from; minute < to; minute += 1) await store(minute, 8, losses)
  }
  const advance = (minute: number) =>
    advanceDetectors(testDeps({ nowMs: () => startMs + minute * MINUTE_MS + 40_000 }))
  const states = async () => {
    const rows = await listDetectorStates(db, model)
    return Object.fromEntries(
      rows.map(({ signal, maskVersion, requests, state }) => [
        `${signal} m${maskVersion}`,
        { requests, observations: state.pageHinkley.count },
      ]),
    )
  }
  const alerts = async () => (await adminJson<AlertsReport>('GET', `/alerts?model=${model}`)).alerts
  return { store, during, advance, states, alerts, startMs }
}

describe('the detectors of a model', () => {
  test('lack observations until they have learnt what is normal, of the traffic and of the mask that serves', async () => {
    const { during, advance, startMs } = await modelWithTraffic('young')
    const missing = async (maskVersion: number) => {
      const name = 'young-legal'
      return (await missingObservations(db, 'young', [{ name, maskVersion }])).get(name)
    }
    expect([await missing(0), await missing(1)]).toEqual([100, 100])
    await during(0, 5)
    await advance(5)
    expect([await missing(0), await missing(1), await missing(2)]).toEqual([60, 60, 100])
    await during(5, 14)
    await advance(14)
    // A new mask starts with new detectors, and the traffic is known.
    expect([await missing(0), await missing(1), await missing(2)]).toEqual([0, 0, 100])

    // What the overview says of the domain: nothing before all is known.
    const model = { id: 'young', activeVersion: 2, domainVersions: new Map<string, number>() }
    const deps = testDeps({ nowMs: () => startMs + 15 * MINUTE_MS })
    const missingIn = async (activeVersion: number) => {
      const [summary] = await summariseDomains(deps, { ...model, activeVersion }, new Set())
      return summary?.missing_observations
    }
    expect([await missingIn(1), await missingIn(2)]).toEqual([0, 100])
  })

  test('go on after the clock was set back, at once if it was by long', async () => {
    const { store, advance, states } = await modelWithTraffic('clock')
    await store(60, 8)
    await advance(61)
    for (const minute of [59, 20]) await store(minute, 8)
    await advance(60)
    expect(await states()).toMatchObject({ 'dense m0': { requests: 8 } })
    await advance(21)
    expect(await states()).toMatchObject({ 'dense m0': { requests: 16 } })
  })

  test('lack no observations of domains of which they get none: unscored, not registered, or deleted', async () => {
    const { store, advance, startMs } = await modelWithTraffic('unread')
    await ensureDomains(db, ['unread-mail', 'unread-gone'], 0)
    await store(0, 1)
    await store(0, 1, { domain: 'unread-mail', drift: null })
    await store(0, 1, { domain: 'unread-elsewhere' })
    await forgetDomain(db, 'unread-gone')
    await store(1, 1, { domain: 'unread-gone' })
    await advance(2)
    const deps = testDeps({ nowMs: () => startMs + 2 * MINUTE_MS })
    const model = { id: 'unread', activeVersion: 1, domainVersions: new Map<string, number>() }
    const missing = (await summariseDomains(deps, model, new Set())).map(
      ({ name, missing_observations: count }) => [name, count],
    )
    expect(Object.fromEntries(missing)).toEqual({
      'unread-legal': 99,
      'unread-mail': null,
      'unread-elsewhere': null,
      'unread-gone': null,
    })
  })

  test('read each scored request once, in the minute after it, however often and by how many they are run', async () => {
    const { store, advance, states } = await modelWithTraffic('once')
    const receipts = await store(0, 5)
    await advance(0)
    expect(await states()).toEqual({})
    await Promise.all([advance(1), advance(1), advance(1)])
    await advance(1)
    const once = { requests: 5, observations: 5 }
    expect(await states()).toEqual({ 'dense m0': once, 'gap m1': once })
    // A node that got no response sends its batch again.
    await insertReceipts(db, 'once-1', receipts, 'node', Date.now() + 2 * MINUTE_MS)
    await advance(4)
    expect(await states()).toEqual({ 'dense m0': once, 'gap m1': once })
  })

  test('read a bounded number of means of a minute, of all its requests', async () => {
    const { store, advance, states } = await modelWithTraffic('bounded')
    await store(0, 45)
    await advance(1)
    const bounded = { requests: 45, observations: OBSERVATIONS_PER_MINUTE }
    expect(await states()).toEqual({ 'dense m0': bounded, 'gap m1': bounded })
  })

  test('read no superseded, too short or unscored request, and none of a domain that is not registered', async () => {
    const { store, advance, states } = await modelWithTraffic('left-out')
    await store(0, 1, { drift: null })
    await store(0, 1, { drift: { tokens: 3, nllMasked: 9, nllDense: 9 } })
    await store(0, 1, { domain: 'left-out-elsewhere' })
    await store(0, 2, { maskVersion: 0 })
    await advance(1)
    expect(await states()).toEqual({ 'dense m0': { requests: 2, observations: 2 } })
  })

  test('catch up by ten minutes a run after a silence, and never by more than a day', async () => {
    const { store, advance, states, startMs } = await modelWithTraffic('late')
    await advance(1)
    for (const minute of [1, 12]) await store(minute, 3)
    await advance(21)
    expect((await states())['gap m1']?.requests).toBe(3)
    await advance(21)
    expect((await states())['gap m1']?.requests).toBe(6)
    await advance(3 * 24 * 60)
    expect(await findDetectorCursor(db, 'late')).toBe(startMs + (2 * 24 * 60 + 10) * MINUTE_MS)
  })
})

describe('a domain', () => {
  test('whose pruning costs more alerts once, until its cost has returned', async () => {
    const { during, advance, states, alerts } = await modelWithTraffic('gap')
    await during(0, 20)
    await during(20, 32, { gap: 0.8 })
    for (const minute of [10, 20, 30, 32]) await advance(minute)
    const [alert, ...others] = await alerts()
    expect(others).toEqual([])
    expect(alert).toMatchObject({ kind: 'gap_drift', domain: 'gap-legal', mask_version: 1, ended_at: null })
    expect(alert?.message).toMatch(
      /^Pruning costs 'gap-legal' 0\.[5-8]\d nats a token under mask 1 and cost 0\.3\d \((Page-Hinkley|ADWIN)\)/,
    )
    const { detectors } = await adminJson<DetectorsReport>('GET', '/detectors?model=gap')
    expect(detectors.map(({ signal, detector, observations }) => [signal, detector, observations])).toEqual([
      ['dense', 'page_hinkley', 256],
      ['dense', 'adwin', 256],
      ['gap', 'page_hinkley', 256],
      ['gap', 'adwin', 256],
    ])
    expect(
      detectors.filter(({ alarmed_at: at }) => at !== null).every(({ signal }) => signal === 'gap'),
    ).toBe(true)
    await during(32, 50)
    for (const minute of [42, 50]) await advance(minute)
    expect((await alerts()).map(({ ended_at: at }) => at === null)).toEqual([false])
    expect((await states())['gap m1']?.requests).toBe(400)
  })

  test('whose traffic changes alerts for its input, not for its gap, and a new mask starts with a new gap', async () => {
    const { store, during, advance, states, alerts } = await modelWithTraffic('input')
    await during(0, 20)
    await during(20, 32, { dense: 4 })
    for (const minute of [10, 20, 30, 32]) await advance(minute)
    expect(await alerts()).toMatchObject([{ kind: 'input_drift', domain: 'input-legal', mask_version: null }])
    await activate('input', 2)
    await store(32, 4, { dense: 4, gap: 0.9, maskVersion: 2 })
    await advance(33)
    expect(await states()).toMatchObject({
      'dense m0': { requests: 260 },
      'gap m1': { requests: 256 },
      'gap m2': { requests: 4 },
    })
    const statistics = (await listDetectorStatistics(db)).filter((each) => each.model === 'input')
    expect(statistics).toMatchObject([
      { domain: 'input-legal', maskVersion: 0, signal: 'dense', adwin: expect.any(Number) as number },
      { domain: 'input-legal', maskVersion: 2, signal: 'gap', pageHinkley: 0, adwin: 0 },
    ])
    expect(statistics).toHaveLength(2)
    await forgetDomain(db, 'input-legal')
    expect([await states(), await alerts()]).toEqual([{}, []])
  })

  test('whose mask no longer serves has no alert of its gap', async () => {
    const { during, advance, alerts } = await modelWithTraffic('replaced')
    await during(0, 20)
    await during(20, 30, { gap: 1 })
    for (const minute of [10, 20, 30]) await advance(minute)
    expect(await alerts()).toMatchObject([{ kind: 'gap_drift', ended_at: null }])
    await activate('replaced', 2)
    await advance(31)
    expect((await alerts()).map(({ ended_at: at }) => at === null)).toEqual([false])
  })
})
