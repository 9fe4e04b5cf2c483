import { expect, test } from 'vitest'
import type { DomainSeries } from '../../../../gateway/dashboard/src/data/domain-series.ts'
import { scoredNote, whyNothingScored } from '../../../../gateway/dashboard/src/pages/domain/scored-note.ts'

function withTotals(totals: Partial<DomainSeries['totals']>): DomainSeries {
  const line = { values: [], lower: [], upper: [] }
  const notScored = { not_sampled: 0, too_short: 0, budget: 0, evicted: 0, failed: 0 }
  return {
    domain: 'code',
    dense: line,
    pruned: line,
    gap: line,
    requests: [],
    tokens: [],
    totals: { requests: 0, failed: 0, tokens: 0, scored: 0, notScored, ...totals },
  }
}
const reasons = { not_sampled: 6, too_short: 0, budget: 2, evicted: 0, failed: 0 }

test('the note tells how many requests were scored, and why others were not', () => {
  const note = scoredNote(withTotals({ requests: 10, scored: 2, notScored: reasons }))
  expect(note.replaceAll('\u202F', ' ')).toContain(
    '2 of 10 requests were scored (20 %); the others were not: 6 not in the sample, 2 over the share of node time',
  )
  expect(scoredNote(withTotals({ requests: 1, scored: 1 })).replaceAll('\u202F', ' ')).toContain(
    '1 of 1 request was scored (100 %).',
  )
  expect(scoredNote(withTotals({}))).toBe('No requests in this time.')
})

test('an empty chart tells the reason that most requests had', () => {
  expect(whyNothingScored(withTotals({}))).toBe('No requests in this time.')
  expect(whyNothingScored(withTotals({ requests: 8, notScored: reasons }))).toBe(
    'Nothing was scored in this time: 6 of 8 requests were not in the sample.',
  )
  expect(whyNothingScored(withTotals({ requests: 8, scored: 1 }))).toContain('Too few')
})
