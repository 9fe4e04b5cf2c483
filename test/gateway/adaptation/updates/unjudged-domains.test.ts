import { expect, test } from 'vitest'
import type { GateVerdict } from '../../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { withUnjudged } from '../../../../gateway/src/adaptation/updates/unjudged-domains.ts'

const passed: GateVerdict = { verdict: 'passed', reason: 'It is better.', figures: [], violations: [] }
const none = { leftOut: [], waiting: [], neededTokens: 2048 }

test('a verdict names the domains that it says nothing about, each with the reason', () => {
  const waiting = [
    { name: 'law', tokens: 310 },
    { name: 'mail', tokens: 0 },
    { name: 'news', tokens: 4_000 },
  ]
  const verdict = withUnjudged(passed, { ...none, leftOut: ['code'], waiting })
  expect(verdict.verdict).toBe('passed')
  expect(verdict.reason).toBe('It is better. 4 domains were not evaluated: code, law, mail and news.')
  expect(
    verdict.figures.map(({ name, value, passed: isPassed, note }) => [name, value, isPassed, note]),
  ).toEqual([
    ['holdouts left out', 1, true, 'not evaluated, because of effort.max_holdouts: code'],
    [
      'domains without a holdout',
      3,
      true,
      'not evaluated, because they have no holdout yet, which takes about 2048 held-out tokens: ' +
        'law (has about 310), mail (has none) and news (has enough now)',
    ],
  ])
})

test('a domain whose text is not counted yet is named as such', () => {
  const { figures } = withUnjudged(passed, { ...none, waiting: [{ name: 'law', tokens: undefined }] })
  expect(figures[0]?.note).toMatch(/: law \(not counted\)$/)
})

test('a verdict on all domains says nothing more, and of very many domains some are named', () => {
  expect(withUnjudged(passed, none)).toBe(passed)
  const waiting = Array.from({ length: 40 }, (_, index) => ({ name: `d${index}`, tokens: 0 }))
  const { reason, figures } = withUnjudged(passed, { ...none, waiting })
  expect(reason).toBe('It is better. 40 domains were not evaluated: d0, d1, d2 and 37 others.')
  expect(figures[0]?.note).toMatch(/d30 \(has none\) and 9 others$/)
  expect(withUnjudged(passed, { ...none, waiting: waiting.slice(0, 1) }).reason).toMatch(
    / One domain was not evaluated: d0\.$/,
  )
})
