import { expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { joinDriftPages } from '@copal/shared/wire/drift-pages.ts'
import type { MaskRow } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { driftReport, type DriftRecord } from '../../../../gateway/src/adaptation/drift/drift-report.ts'

/** Creates a promoted mask with the domains of its statistics, and those that its update calibrated on. */
const promoted = (version: number, updateDomains: string[], domains: string[], method = 'copal') => {
  const mask: MaskRow = {
    model: 'm',
    version,
    sha256: '',
    parentVersion: null,
    updateId: `u${version}`,
    candidate: 1,
    method,
    pattern: '0.5',
    scope: 'row',
    sparsity: 0.5,
    churn: null,
    domains,
    bytes: 1,
    createdAt: version,
    promotedAt: version,
    pinned: false,
    sweptAt: null,
  }
  return { mask, updateDomains }
}
const evaluation = (version: number, domain: string, perplexity: number, holdout = 1) => ({
  model: 'm',
  version,
  domain,
  holdoutSha256: `${domain}-${holdout}`,
  tokens: 10,
  windowNll: null,
  numerics: null as string | null,
  nllMean: Math.log(perplexity),
  createdAt: 1,
})
const holdout = (domain: string, version: number) => ({
  domain,
  version,
  sha256: `${domain}-${version}`,
  samples: 1,
  characters: 1,
  createdAt: version,
})
const record = (changes: Partial<DriftRecord>): DriftRecord => ({
  model: 'm',
  activeVersion: 0,
  traffic: [],
  promoted: [],
  evaluations: [],
  holdouts: ['a', 'b', 'c'].map((domain) => holdout(domain, 1)),
  ...changes,
})
const rounded = (matrix: (number | null)[][]) =>
  matrix.map((row) => row.map((cell) => cell && Number(cell.toFixed(9))))

/** Computed by hand; c was never calibrated on. */
const history = record({
  promoted: [promoted(1, ['b'], ['b']), promoted(3, ['a'], ['a', 'b']), promoted(2, ['b'], ['a', 'b'])],
  evaluations: [
    ...[
      ['a', 5],
      ['b', 10],
      ['c', 50],
    ].map(([domain, value]) => evaluation(0, String(domain), Number(value))),
    evaluation(1, 'b', 12),
    ...[
      ['a', 6],
      ['b', 13],
      ['c', 60],
    ].map(([domain, value]) => evaluation(3, String(domain), Number(value))),
    ...[
      ['a', 7.5],
      ['b', 11.5],
      ['c', 55],
    ].map(([domain, value]) => evaluation(2, String(domain), Number(value))),
  ],
})

test('the R matrix has a row for dense and each promoted mask, and a column for each domain in the order of learning', () => {
  const { r } = driftReport({ ...history, activeVersion: 2 })
  expect(r.domains).toEqual(['b', 'a', 'c'])
  expect(r.stages.map(({ mask_version: version }) => version)).toEqual([0, 1, 3, 2])
  expect(rounded(r.perplexity)).toEqual([
    [10, 5, 50],
    [12, null, null],
    [13, 6, 60],
    [11.5, 7.5, 55],
  ])
})

test('backward transfer is computed at the active mask, without domains that it learned first or that were never learned', () => {
  // a: 7.5 − 6. b, which m2 learned again: 11.5 − 12. At m3 only b is earlier: 13 − 12. At m1 and dense nothing is.
  expect(driftReport({ ...history, activeVersion: 2 }).r.backward_transfer).toEqual({
    mean: expect.closeTo(0.5, 9),
    max: expect.closeTo(1.5, 9),
  })
  expect(driftReport({ ...history, activeVersion: 3 }).r.backward_transfer).toEqual({
    mean: expect.closeTo(1, 9),
    max: expect.closeTo(1, 9),
  })
  expect(driftReport({ ...history, activeVersion: 1 }).r.backward_transfer).toBeNull()
  expect(driftReport({ ...history, activeVersion: 0 }).r.backward_transfer).toBeNull()
})

test('forgetting is measured against the first and the best mask, also when every update calibrates every domain', () => {
  const everyone = ['a', 'b']
  const { r } = driftReport(
    record({
      activeVersion: 3,
      promoted: [1, 2, 3].map((version) => promoted(version, everyone, everyone)),
      evaluations: [
        ...[3, 12, 10, 11].map((value, version) => evaluation(version, 'a', value)),
        ...[5, 20, 21, 23].map((value, version) => evaluation(version, 'b', value)),
      ],
    }),
  )
  const close = (mask: number, value: number, difference: number) => ({
    mask_version: mask,
    perplexity: expect.closeTo(value, 9),
    difference: expect.closeTo(difference, 9),
  })
  expect(r.forgetting).toEqual([
    {
      domain: 'a',
      holdout_version: 1,
      first: close(1, 12, -1),
      best: close(2, 10, 1),
      active: expect.closeTo(11, 9),
    },
    {
      domain: 'b',
      holdout_version: 1,
      first: close(1, 20, 3),
      best: close(1, 20, 3),
      active: expect.closeTo(23, 9),
    },
  ])
  expect(r.backward_transfer).toEqual({ mean: expect.closeTo(1, 9), max: expect.closeTo(3, 9) })
})

test('losses on different holdout versions are never compared: a replaced holdout is no forgetting', () => {
  const changes = {
    activeVersion: 2,
    promoted: [promoted(1, ['a'], ['a']), promoted(2, ['b'], ['a', 'b'])],
    holdouts: [1, 2].map((version) => holdout('a', version)),
  }
  // The second version has harder text.
  const apart = [
    evaluation(0, 'a', 8),
    evaluation(1, 'a', 10),
    evaluation(0, 'a', 20, 2),
    evaluation(2, 'a', 23, 2),
  ]
  const { r } = driftReport(record({ ...changes, evaluations: apart }))
  expect(rounded(r.perplexity)).toEqual([[20], [null], [23]])
  expect(r.holdouts).toEqual([{ domain: 'a', version: 2, sha256: 'a-2' }])
  expect([r.forgetting, r.backward_transfer]).toEqual([[], null])
  const both = driftReport(record({ ...changes, evaluations: [...apart, evaluation(1, 'a', 24, 2)] })).r
  expect(rounded(both.perplexity)).toEqual([[20], [24], [23]])
  expect(both.forgetting).toMatchObject([{ domain: 'a', holdout_version: 2, first: { mask_version: 1 } }])
  expect(both.backward_transfer?.max).toBeCloseTo(-1, 9)
})

test('losses of other numerics are never compared: a new form of the weights is no forgetting', () => {
  const changes = { activeVersion: 3, promoted: [1, 2, 3].map((version) => promoted(version, ['a'], ['a'])) }
  const packed = { numerics: 'int4 packed, head int8' }
  const cells = [
    evaluation(1, 'a', 12),
    { ...evaluation(2, 'a', 11), ...packed },
    { ...evaluation(3, 'a', 10), ...packed },
  ]
  const { r } = driftReport(record({ ...changes, evaluations: cells }))
  expect(rounded(r.perplexity)).toEqual([[null], [null], [11], [10]])
  expect(r.forgetting).toMatchObject([{ first: null, best: { mask_version: 2 } }])
  expect(r.backward_transfer).toBeNull()
  // Where the active mask was not measured, the last one that was decides.
  const unmeasured = driftReport(record({ ...changes, evaluations: cells.slice(0, 2) }))
  expect(rounded(unmeasured.r.perplexity)).toEqual([[null], [null], [11], [null]])
})

test('a column shows the version with most stages that the active mask was evaluated on, and of these the newest', () => {
  const promotions = [1, 2, 3].map((version) => promoted(version, ['a'], ['a']))
  const column = (activeVersion: number, ...cells: [version: number, holdout: number][]) =>
    driftReport(
      record({
        activeVersion,
        promoted: promotions,
        holdouts: [1, 2].map((version) => holdout('a', version)),
        evaluations: cells.map(([version, on]) => evaluation(version, 'a', 10, on)),
      }),
    ).r.holdouts[0]?.version
  expect(column(3, [1, 1], [2, 1], [3, 1], [2, 2], [3, 2])).toBe(1)
  expect(column(3, [1, 1], [2, 1], [2, 2], [3, 2])).toBe(2)
  expect(column(2, [1, 1], [2, 1], [2, 2], [3, 2])).toBe(2)
  expect(column(3, [0, 1], [1, 1], [1, 3])).toBe(1)
  expect(column(3, [3, 3])).toBeNull()
})

test('a magnitude mask has no calibrated domains', () => {
  const { r } = driftReport(
    record({ promoted: [promoted(1, ['a'], [], 'magnitude')], evaluations: [evaluation(1, 'a', 9)] }),
  )
  expect(r.stages[1]).toEqual({ mask_version: 1, calibrated_domains: [] })
})

test('traffic is reported as mean loss per token, with the gap', () => {
  const sum = {
    model: 'm',
    domain: 'a',
    maskVersion: 1,
    requests: 2,
    tokens: 30,
    nllMasked: 75,
    nllDense: 60,
  }
  expect(driftReport(record({ traffic: [sum] })).traffic).toEqual([
    { domain: 'a', mask_version: 1, requests: 2, tokens: 30, nll_masked: 2.5, nll_dense: 2, gap: 0.5 },
  ])
})

const sumOf = (domain: string, maskVersion: number) => ({
  model: 'm',
  domain,
  maskVersion,
  requests: 1,
  tokens: 10,
  nllMasked: 20,
  nllDense: 18,
})

test('a page has at most as many domains as are asked for, and pages joined are the whole report', () => {
  const domains = ['(general)', 'a', 'b', 'c', 'only-traffic']
  const traffic = domains.filter((name) => name !== 'c').map((domain) => sumOf(domain, 1))
  const input = { ...history, traffic, activeVersion: 2 }
  const whole = driftReport(input)
  expect(whole.next_after).toBeNull()
  const pages: DriftReport[] = []
  for (let after: string | null | undefined; after !== null && pages.length < 9;) {
    const page = driftReport(input, { limit: 2, after })
    const named = new Set([...page.r.domains, ...page.traffic.map(({ domain }) => domain)])
    expect(named.size).toBeLessThanOrEqual(2)
    expect(page.r.backward_transfer).toEqual(whole.r.backward_transfer)
    pages.push(page)
    after = page.next_after
  }
  expect(pages).toHaveLength(3)
  const joined = pages.reduce(joinDriftPages)
  const columns = ({ r }: DriftReport) =>
    Object.fromEntries(
      r.domains.map((domain, column) => [
        domain,
        { holdout: r.holdouts[column], cells: r.perplexity.map((row) => row[column]) },
      ]),
    )
  expect(columns(joined)).toEqual(columns(whole))
  expect(joined.traffic).toEqual(whole.traffic)
  expect(joined.r.forgetting).toHaveLength(whole.r.forgetting.length)
  expect(joined.next_after).toBeNull()
})

test('of many masks a report has dense, the newest hundred and the active one', () => {
  const versions = Array.from({ length: 150 }, (_, index) => index + 1)
  const input = record({
    promoted: versions.map((version) => promoted(version, ['a'], ['a'])),
    evaluations: [0, ...versions].map((version) => evaluation(version, 'a', 10 + version)),
    traffic: [0, ...versions].map((version) => sumOf('a', version)),
  })
  const { r, traffic } = driftReport({ ...input, activeVersion: 7 })
  const shown = [0, 7, ...versions.slice(50)]
  expect(r.stages.map(({ mask_version: version }) => version)).toEqual(shown)
  expect(r.perplexity).toHaveLength(shown.length)
  expect(r.earlier_stages).toBe(49)
  expect(traffic.map(({ mask_version: version }) => version)).toEqual(shown)
})

test('a report of one mask has dense, this mask and the active one, on the holdout version that has most of them', () => {
  const versions = Array.from({ length: 150 }, (_, index) => index + 1)
  const input = record({
    activeVersion: 150,
    promoted: versions.map((version) => promoted(version, ['a'], ['a'])),
    evaluations: [
      ...[0, 3].map((version) => evaluation(version, 'a', 10 + version, 1)),
      ...[0, ...versions.slice(3)].map((version) => evaluation(version, 'a', 20 + version, 2)),
    ],
    traffic: [0, ...versions].map((version) => sumOf('a', version)),
  })
  const { r, traffic } = driftReport(input, { limit: 1, maskVersion: 3 })
  expect(r.stages.map(({ mask_version: version }) => version)).toEqual([0, 3, 150])
  expect(r.holdouts[0]?.sha256).toBe('a-1')
  expect(r.perplexity.map(([cell]) => cell && Math.round(cell))).toEqual([10, 13, null])
  expect(traffic.map(({ mask_version: version }) => version)).toEqual([0, 3, 150])
})
