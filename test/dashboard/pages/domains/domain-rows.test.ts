import { expect, test } from 'vitest'
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import { phrasesText } from '../../../../gateway/dashboard/src/format/phrases.ts'
import { domainRows, domainsSentence } from '../../../../gateway/dashboard/src/pages/domains/domain-rows.ts'
import { alertOf, domainOf, overviewWith } from '../../../support/dashboard/reports.ts'

const entryOf = (name: string, reviewed = 0): DomainEntry => ({
  name,
  samples: 1,
  characters: 10,
  seen: 1,
  holdout_samples: 0,
  holdout_frozen: false,
  owner: null,
  review_samples: reviewed,
  calibrated_datasets: 0,
  last_sample_at: null,
})
const proposal = { id: 'p' } as ProposalEntry

test('domains without traffic come by name, numbers in their order', () => {
  const rows = domainRows([entryOf('legal-10'), entryOf('legal-2'), entryOf('code')], undefined)
  expect(rows.map(({ name }) => name)).toEqual(['code', 'legal-2', 'legal-10'])
})

test('domains come by traffic, without samples too, and those without traffic at the end', () => {
  const overview = overviewWith({
    domains: [
      { ...domainOf('code', 0.1), traffic_share: 0.2 },
      { ...domainOf('speech', 0.1), traffic_share: 0.8 },
    ],
  })
  const rows = domainRows([entryOf('poetry'), entryOf('code')], overview)
  expect(rows.map(({ name }) => name)).toEqual(['speech', 'code', 'poetry'])
})

test('the sentence counts domains, and names what drifts and what waits', () => {
  const overview = overviewWith({ domains: [{ ...domainOf('code', 0.1), drifting: true }] })
  const rows = domainRows([entryOf('code', 2), entryOf('speech')], overview)
  expect(phrasesText(domainsSentence(rows, [proposal]), 0)).toBe(
    '2 domains; code drifts. 1 found domain waits for a name. 2 texts are set aside for review.',
  )
  expect(phrasesText(domainsSentence([], []), 0)).toBe('No domain has traffic or samples yet.')
})

test('a domain that the overview does not list drifts while an alert of it holds', () => {
  const overview = overviewWith({ alerts: [{ ...alertOf('a'), domain: 'rare' }] })
  const rows = domainRows([entryOf('rare'), entryOf('quiet')], overview)
  expect(rows.filter(({ drifts }) => drifts).map(({ name }) => name)).toEqual(['rare'])
  expect(phrasesText(domainsSentence(rows, []), 0)).toBe('5 domains; rare drifts.')
})

test('domains that no list has are counted, and are not said to be steady', () => {
  const rows = domainRows([], overviewWith({ domains: [domainOf('code', 0.1)] }))
  expect(phrasesText(domainsSentence(rows, [], 12), 0)).toBe('13 domains; none is known to drift.')
})

test('no domain is said to be steady before enough of its requests were scored', () => {
  const sentenceOf = (...domains: ReturnType<typeof domainOf>[]) =>
    phrasesText(domainsSentence(domainRows([], overviewWith({ domains })), []), 0)
  expect(sentenceOf(domainOf('code', 0.1))).toBe('1 domain; none drifts.')
  expect(sentenceOf(domainOf('code', 0.1), domainOf('speech', null))).toBe(
    '2 domains; none is known to drift.',
  )
  expect(sentenceOf(domainOf('code', null))).toBe('1 domain; whether one drifts is not known.')
  const young = { ...domainOf('law', 0.1), missing_observations: 1 }
  expect(sentenceOf(young)).toBe('1 domain; whether one drifts is not known.')
})

test('a domain is called steady once its detectors can judge it, and before that what is missing is said', () => {
  const young = { ...domainOf('law', 0.1), missing_observations: 38 }
  expect(knownDrift(young).words).toBe('not known yet: 38 observations missing')
  expect(knownDrift({ ...young, missing_observations: 1 }).words).toBe('not known yet: 1 observation missing')
  expect(knownDrift({ ...young, drifting: true }).words).toBe('drifting')
  expect(knownDrift(domainOf('law', null)).words).toBe('not known: too few scores in 24 hours')
  expect(knownDrift(domainOf('law', 0.1)).words).toBe('steady')
  const unread = { missing_observations: null }
  expect(knownDrift({ ...domainOf('law', null), ...unread }).words).toBe('not scored')
  // Also where too few requests were scored for a cost.
  expect(knownDrift({ ...domainOf('(other)', null), ...unread, scored_requests: 1 }).words).toBe(
    'not registered',
  )
})
