import { expect, test } from 'vitest'
import type { TrialCourse } from '@copal/shared/wire/admin-trial-course.ts'
import { closingPoints, trialSentence } from '../../../../gateway/dashboard/src/pages/updates/trial-words.ts'

const pointOf = (requests: number, half: number, gap = 0) => ({
  at: '2026-11-28T02:00:00.000Z',
  requests,
  tokens: requests * 30,
  gap,
  lower: gap - half,
  upper: gap + half,
})
const course: TrialCourse = {
  kind: 'canary',
  mask_version: 14,
  beside_version: 13,
  running: true,
  limit: 0.01,
  min_tokens: 20_000,
  points: [],
}

test('a trial is undecided while its bound is within the interval', () => {
  expect(trialSentence({ ...course, points: [pointOf(100, 0.05)] })).toContain('It is not decided yet')
})

test('harm is proven when all of the interval is above the bound, and no harm when it is below', () => {
  expect(trialSentence({ ...course, points: [pointOf(900, 0.01, 0.03)] })).toContain('Harm is proven')
  expect(trialSentence({ ...course, points: [pointOf(900, 0.005, -0.01)] })).toContain('proven not worse')
})

test('a trial without scores says so', () => {
  expect(trialSentence(course)).toContain('No request was scored')
  expect(trialSentence({ ...course, running: false })).toContain('not kept any more')
})

test('the chart begins where the interval is narrow enough, and keeps at least two points', () => {
  const points = [pointOf(1, 0.5), pointOf(10, 0.3), pointOf(100, 0.03), pointOf(1_000, 0.01)]
  expect(closingPoints({ limit: 0.01, points }).map(({ requests }) => requests)).toEqual([100, 1_000])
  expect(closingPoints({ limit: 0.01, points: [pointOf(1, 0.5)] })).toHaveLength(1)
  expect(closingPoints({ limit: 0.01, points: [] })).toEqual([])
})
