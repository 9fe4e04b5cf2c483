import { expect, test } from 'vitest'
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
  }
  return { mask, updateDomains }
}
const evaluation = (version: number, domain: string, perplexity: number) => ({
  model: 'm',
  version,
  domain,
  holdoutSha256: domain,
  tokens: 10,
  windowNll: null,
  nllMean: Math.log(perplexity),
  createdAt: 1,
})
const record = (changes: Partial<DriftRecord>): DriftRecord => ({
  model: 'm',
  activeVersion: 0,
  traffic: [],
  promoted: [],
  evaluations: [],
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

test('backward transfer is computed at the active mask, without the domain learned last and domains never learned', () => {
  // m2 learned b again, so only a is earlier: 7.5 − 6. At m3 only b is earlier: 13 − 12. At m1 and dense nothing is.
  expect(driftReport({ ...history, activeVersion: 2 }).r.backward_transfer).toEqual({
    mean: expect.closeTo(1.5, 9),
    max: expect.closeTo(1.5, 9),
  })
  expect(driftReport({ ...history, activeVersion: 3 }).r.backward_transfer).toEqual({
    mean: expect.closeTo(1, 9),
    max: expect.closeTo(1, 9),
  })
  expect(driftReport({ ...history, activeVersion: 1 }).r.backward_transfer).toBeNull()
  expect(driftReport({ ...history, activeVersion: 0 }).r.backward_transfer).toBeNull()
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
