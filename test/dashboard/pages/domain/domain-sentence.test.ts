import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { phrasesText, type Phrase } from '../../../../gateway/dashboard/src/format/phrases.ts'
import {
  costPhrases,
  nextUpdatePhrases,
  triggerRows,
  waitAfterFailures,
} from '../../../../gateway/dashboard/src/pages/domain/domain-sentence.ts'
import { domainOf } from '../../../support/dashboard/reports.ts'

const nowMs = Date.parse('2026-11-28T12:00:00Z')
const read = (phrases: Phrase[]) => phrasesText(phrases, nowMs).replaceAll('\u202F', ' ')

const triggerDomain: TriggersReport['domains'][number] = {
  domain: 'code',
  new_segments: 4,
  gap: 0.1,
  traffic_share: 0.5,
  gain: 1,
  due: null,
  reason: '4 of 16 new segments',
  missing_holdout_tokens: 0,
  failures: 0,
  not_before: null,
}
function triggersWith(changes: Partial<TriggersReport> = {}): TriggersReport {
  return {
    model: 'm',
    enabled: true,
    dry_run: false,
    running: null,
    waits_for: null,
    next_start_at: null,
    next_schedule_at: null,
    started_today: 0,
    next_domains: [],
    node_share: 0.3,
    domains: [triggerDomain],
    ...changes,
  }
}

test('the sentence tells traffic, cost with interval, and the mask', () => {
  expect(read(costPhrases(domainOf('code', 0.03), undefined))).toBe(
    'code brings 50 % of the traffic. Pruning costs it +3.05 % perplexity over dense (+2.02 % to +4.08 %) under mask 14.',
  )
})

test('drift, missing scores and missing traffic are said', () => {
  const textOf = (...[summary, entry]: Parameters<typeof costPhrases>) => read(costPhrases(summary, entry))
  expect(textOf({ ...domainOf('code', 0.03), drifting: true }, undefined)).toMatch(/It drifts\.$/)
  expect(textOf({ ...domainOf('code', 0.03), missing_observations: 38 }, undefined)).toMatch(
    /Whether it drifts is not known yet: 38 observations missing\.$/,
  )
  expect(textOf(domainOf('poetry', null), undefined)).toMatch(
    /under mask 14 is not known: too few requests were scored\. Whether it drifts is not known: too few scores in 24 hours\.$/,
  )
  expect(textOf({ ...domainOf('code', null), missing_observations: null }, undefined)).toMatch(
    /Whether it drifts is not known: it is not scored\.$/,
  )
  expect(textOf({ ...domainOf('other', null), requests: 0 }, undefined)).toBe(
    'other had no traffic in the last 24 hours.',
  )
})

test('a mask that serves the domain alone is called its own', () => {
  const entry = { own_mask: 15 } as DomainEntry
  const textUnder = (version: number) =>
    read(costPhrases({ ...domainOf('code', 0.03), mask_version: version }, entry))
  expect(textUnder(15)).toMatch(/ under its own mask 15\.$/)
  // The figures are up to 30 seconds older than the list of domains.
  expect(textUnder(14)).toMatch(/ under mask 14\.$/)
})

test('what makes a domain due is measured against the policy', () => {
  const rows = triggerRows(triggerDomain, PRESETS.production.triggers)
  expect(rows.map(({ name, progress }) => [name, progress])).toEqual([
    ['New text', 0.25],
    ['Cost of pruning', 0.2],
  ])
  const [, unknown] = triggerRows({ ...triggerDomain, gap: null }, PRESETS.production.triggers)
  expect(unknown).toMatchObject({ progress: undefined, now: 'too few scores' })
})

test('the next update runs, waits, is not due or needs an operator', () => {
  expect(read(nextUpdatePhrases('code', triggersWith(), nowMs))).toBe(
    'It is not due for an update: 4 of 16 new segments.',
  )
  const due = [{ ...triggerDomain, due: 'volume' as const, reason: '16 new segments.' }]
  const waiting = triggersWith({
    domains: due,
    waits_for: 'An update runs',
    next_start_at: '2026-11-28T12:10:00Z',
  })
  expect(read(nextUpdatePhrases('code', waiting, nowMs))).toBe(
    'It is due for an update: 16 new segments. It waits: An update runs. The next update may start in 10 min.',
  )
  const ready = triggersWith({ domains: due, next_start_at: '2026-11-28T11:59:58Z' })
  expect(read(nextUpdatePhrases('code', ready, nowMs))).toMatch(/ The next update may start now\.$/)
  expect(read(nextUpdatePhrases('code', triggersWith({ enabled: false }), nowMs))).toContain(
    'an operator starts them',
  )
  expect(read(nextUpdatePhrases('other', triggersWith(), nowMs))).toContain('No text of it is kept yet')
})

test('a domain waits after failures only until its time has come', () => {
  const until = '2026-11-28T12:00:00.000Z'
  const waitAt = (time: string, failures = 1) =>
    waitAfterFailures({ ...triggerDomain, failures, not_before: until }, Date.parse(time))
  expect(waitAt('2026-11-28T11:59:00Z')).toEqual({
    until,
    reason: 'because its last update left no mask in use',
  })
  expect(waitAt('2026-11-28T11:59:00Z', 3)?.reason).toBe('because its last 3 updates left no mask in use')
  expect(waitAt('2026-11-28T12:00:00Z')).toBeUndefined()
  expect(waitAfterFailures(triggerDomain, 0)).toBeUndefined()
})
