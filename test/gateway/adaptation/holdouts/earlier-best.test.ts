import { expect, test } from 'vitest'
import { earlierBest } from '../../../../gateway/src/adaptation/holdouts/earlier-best.ts'
import type { StageLoss } from '../../../../gateway/src/storage/db/queries/gate-queries.ts'

const loss = (
  version: number,
  domain: string,
  nllMean: number,
  changes: Partial<StageLoss> = {},
): StageLoss => ({
  version,
  domain,
  nllMean,
  holdoutSha256: `${domain}-2`,
  numerics: 'bf16',
  createdAt: version,
  mask: `mask-${version}`,
  ...changes,
})
const holdout = (domain: string) => ({ sha256: `${domain}-3`, domain, samples: 1, createdAt: 0 })
const PARENT = 9
const due = (domains: readonly string[], losses: readonly StageLoss[], seed = 'update') =>
  earlierBest(domains.map(holdout), losses, { parentVersion: PARENT, ended: [], seed })

test('the best mask of an earlier version is due until it is measured on the current one', () => {
  const losses = [
    loss(2, 'legal', 2.5),
    loss(3, 'legal', 2.4),
    // As after an update whose evaluation of m3 failed, or which did not evaluate m3: that of a domain's own mask.
    loss(PARENT, 'legal', 2.6, { holdoutSha256: 'legal-3' }),
  ]
  expect(due(['legal'], losses)).toEqual([{ version: 3, mask: 'mask-3', holdouts: [holdout('legal')] }])
  const measured = loss(3, 'legal', 2.7, { holdoutSha256: 'legal-3', createdAt: 10 })
  expect(due(['legal'], [...losses, measured])).toEqual([])
})

test('the best mask of a version on which no later mask was measured is due too, and none that lost on a later one', () => {
  const losses = [
    loss(1, 'legal', 2, { holdoutSha256: 'legal-0' }),
    loss(2, 'legal', 2.1, { holdoutSha256: 'legal-1' }),
    loss(2, 'legal', 2.5, { createdAt: 3 }),
    loss(3, 'legal', 2.4),
  ]
  const versions = due(['legal'], losses).map(({ version }) => version)
  expect(new Set(versions)).toEqual(new Set([1, 3]))
})

test('nothing is due where the active mask was best, or nothing was measured', () => {
  const losses = [loss(3, 'legal', 2.4), loss(PARENT, 'legal', 2.3)]
  expect(due(['legal', 'unknown'], losses)).toEqual([])
})

test('masks are compared only with those of equal numerics', () => {
  const losses = [loss(3, 'legal', 2.4), loss(PARENT, 'legal', 2.3, { numerics: 'int4' })]
  expect(due(['legal'], losses).map(({ version }) => version)).toEqual([3])
})

test('masks of both forms of int4 are compared with the dense model, but not with each other', () => {
  const losses = [
    loss(2, 'legal', 2.5, { numerics: 'int4 packed, head int8' }),
    loss(3, 'legal', 2.3, { numerics: 'int4 packed, head int8' }),
    loss(4, 'legal', 2.4, { numerics: 'int4 dense, head int8' }),
    loss(5, 'legal', 2.6, { numerics: 'int4 dense, head int8' }),
    loss(PARENT, 'legal', 2.45, { numerics: 'int4, head int8' }),
  ]
  const versions = (of: readonly StageLoss[]) => due(['legal'], of).map(({ version }) => version)
  expect(new Set(versions(losses))).toEqual(new Set([3, 4]))
  const better = losses.map((each) => (each.version === PARENT ? { ...each, nllMean: 2.2 } : each))
  expect(versions(better)).toEqual([])
})

test('a mask has all holdouts on which it was best', () => {
  const losses = ['a', 'b', 'c'].flatMap((domain) => [
    loss(2, domain, domain === 'b' ? 2 : 2.5),
    loss(3, domain, domain === 'b' ? 2.5 : 2),
    loss(PARENT, domain, 3),
  ])
  const holdouts = new Map(
    due(['a', 'b', 'c'], losses).map((best) => [best.version, best.holdouts.map(({ domain }) => domain)]),
  )
  expect(holdouts).toEqual(
    new Map([
      [3, ['a', 'c']],
      [2, ['b']],
    ]),
  )
})

test('each of many masks is among the first of some update, and the order of one update is fixed', () => {
  const domains = Array.from({ length: 8 }, (_, index) => `domain-${index}`)
  const losses = domains.map((domain, index) => loss(index + 1, domain, 2))
  const first = (seed: string) => due(domains, losses, seed).slice(0, 3)
  expect(first('update-1')).toEqual(first('update-1'))
  const seen = new Set(
    Array.from({ length: 40 }, (_, index) => first(`update-${index}`).map(({ version }) => version)).flat(),
  )
  expect(seen.size).toBe(8)
})
