import { expect, test } from 'vitest'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { phrasesText, type Phrase } from '../../../../gateway/dashboard/src/format/phrases.ts'
import {
  adaptingSentence,
  costSentence,
  curlExample,
  healthSentence,
  isUnused,
} from '../../../../gateway/dashboard/src/pages/overview/status-sentences.ts'
import { domainOf, overviewWith, updateOf } from '../../../support/dashboard/reports.ts'

const now = Date.parse('2026-11-28T12:00:00Z')
const read = (phrases: Phrase[]) => phrasesText(phrases, now).replaceAll('\u202F', ' ')
const dense = (changes: Partial<OverviewReport> = {}) =>
  overviewWith({
    model: { ...overviewWith().model, active_version: 0, active_since: null, previous_version: null },
    ...changes,
  })

test('a service without problems is well, and says which mask serves for how long', () => {
  expect(read(healthSentence(overviewWith()))).toBe('All is well. Mask 14 has served for 30 min.')
  expect(read(healthSentence(dense()))).toBe('All is well. The dense weights serve; no mask is active yet.')
})

test('a number of the health stays on the line of its per cent sign', () => {
  const health = { problems: ['costly'], text: 'It costs more than 50 %.' }
  expect(phrasesText(healthSentence(overviewWith({ health })), now)).toContain('than 50\u202f%.')
})

test('a mask that an operator left for the dense weights is named', () => {
  const left = { ...overviewWith().model, active_version: 0, active_since: null, previous_version: 14 }
  const phrases = healthSentence(overviewWith({ model: left }))
  expect(read(phrases)).toBe('All is well. The dense weights serve; mask 14 served before.')
})

test('problems come first and are marked', () => {
  const health = { problems: ['2 alerts are active'], text: '2 alerts are active.' }
  const phrases = healthSentence(overviewWith({ health }))
  expect(phrases[0]).toEqual({ harm: '2 alerts are active.' })
  expect(read(phrases)).toBe('2 alerts are active. Mask 14 has served for 30 min.')
})

test('the cost names the domain that pays most and bounds the others', () => {
  expect(read(costSentence(overviewWith()))).toBe(
    'Pruning costs code most, +3.05 % perplexity over dense; no other domain more than +2.02 %.',
  )
  expect(read(costSentence(overviewWith({ domains: [domainOf('code', 0.03)] })))).toBe(
    'Pruning costs code +3.05 % perplexity over dense.',
  )
})

test('an unknown cost is said, and dense weights cost nothing', () => {
  expect(read(costSentence(overviewWith({ domains: [domainOf('code', null)] })))).toContain('not known yet')
  expect(costSentence(overviewWith({ domains: [] }))).toEqual([])
  // The health says that none was scored, unless it names problems.
  const domains = [{ ...domainOf('code', null), missing_observations: null }]
  expect(costSentence(overviewWith({ domains }))).toEqual([])
  const health = { problems: ['1 alert is active'], text: '1 alert is active.' }
  expect(read(costSentence(overviewWith({ domains, health })))).toContain('not known yet')
  expect(costSentence(dense())).toEqual([])
})

test('what adapts is told with its progress', () => {
  expect(read(adaptingSentence(overviewWith()))).toBe('Nothing is adapting.')
  expect(read(adaptingSentence(overviewWith({ updates: [updateOf()] })))).toBe(
    'An update of code is calibrating, 50 %.',
  )
  const canary = overviewWith({ updates: [updateOf({ state: 'canary' })] })
  expect(read(adaptingSentence(canary))).toBe('An update of code is in the canary, 50 %.')
  const ended = overviewWith({ updates: [updateOf({ state: 'promoted', progress: 1 })] })
  expect(read(adaptingSentence(ended))).toBe('Nothing is adapting.')
})

test('a service is unused until it has traffic or a decision', () => {
  const traffic = { ...overviewWith().traffic, tokens_trend: [0, 0] }
  expect(isUnused(overviewWith({ domains: [], traffic }))).toBe(true)
  expect(isUnused(overviewWith({ domains: [] }))).toBe(false)
})

test('the first request is valid shell and JSON, whatever the name of the model', () => {
  const text = curlExample('http://x', `it's "m"`)
  const quoted = /-d ('.*')$/s.exec(text)?.[1] ?? ''
  const body = quoted
    .replaceAll(String.raw`'\''`, '\u0000')
    .replaceAll("'", '')
    .replaceAll('\u0000', "'")
  // A small model may find no end by itself.
  expect(JSON.parse(body)).toEqual({
    model: `it's "m"`,
    max_tokens: 64,
    messages: [{ role: 'user', content: 'Hello.' }],
  })
})
