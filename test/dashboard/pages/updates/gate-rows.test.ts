import { expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { figure } from '../../../../gateway/dashboard/dev/responses/figures.ts'
import { gateTable } from '../../../../gateway/dashboard/src/pages/updates/gate-rows.ts'

const speech = figure('perplexity / parent', {
  domain: 'speech',
  holdout: 'aa',
  value: 0.9,
  lower: 0.88,
  upper: 0.93,
  limit: 1.05,
})

const r: DriftReport['r'] = {
  domains: ['speech'],
  stages: [
    { mask_version: 0, calibrated_domains: [] },
    { mask_version: 13, calibrated_domains: [] },
  ],
  perplexity: [[8], [20]],
  holdouts: [{ domain: 'speech', version: 1, sha256: 'aa' }],
  backward_transfer: null,
  forgetting: [],
}

test('the comparison over all domains comes first, then domains, then the best and the dense mask', () => {
  const figures = [
    figure('finite loss'),
    figure('perplexity / dense', { domain: '(general)', value: 1.3, limit: 1.5 }),
    figure('perplexity / best', { domain: 'speech', value: 0.95, limit: 1.1 }),
    speech,
    figure('perplexity / parent, weighted', { value: 0.97, upper: 0.99, limit: 1 }),
  ]
  const { rows, soundness } = gateTable({ figures }, 13)
  expect(rows.map(({ subject, against }) => `${subject}/${against}`)).toEqual([
    'all domains/parent',
    'speech/parent',
    'speech/best',
    'general text/dense',
  ])
  expect(soundness.map(({ name }) => name)).toEqual(['finite loss'])
})

test('perplexities are shown where they were measured on the same held-out text', () => {
  expect(gateTable({ figures: [speech] }, 13, r).rows[0]).toMatchObject({ reference: 20, candidate: 18 })
  const other = { ...speech, holdout: 'bb' }
  expect(gateTable({ figures: [other] }, 13, r).rows[0]).toMatchObject({ reference: null, candidate: null })
})

test('the range of a chart holds every bound and limit against the active mask', () => {
  const [from, to] = gateTable({ figures: [speech] }, 13).range
  expect(from).toBeLessThanOrEqual(0.88)
  expect(to).toBeGreaterThanOrEqual(1.05)
  expect(to - from).toBeLessThan(0.2)
})

test('small domains that are bounded together are one row', () => {
  const { rows } = gateTable({ figures: [{ ...speech, domain: null, note: 'together: law, code' }] }, 13)
  expect(rows[0]).toMatchObject({ subject: 'law, code', note: 'bounded together' })
  const general = gateTable({ figures: [{ ...speech, domain: null, note: 'together: (general), law' }] }, 13)
  expect(general.rows[0]?.subject).toBe('general text, law')
})

test('the mask that a figure is measured against is no note of its domain', () => {
  const { rows } = gateTable({ figures: [{ ...speech, note: 'm13' }] }, 13)
  expect(rows[0]).toMatchObject({ subject: 'speech', againstVersion: 13, note: undefined })
})

test('domains that were not judged are no check of the mask, and are named with the reason', () => {
  const figures = [
    figure('finite loss'),
    figure('holdouts left out', { value: 1, note: 'not evaluated, because of effort.max_holdouts: law' }),
    figure('domains without a holdout', {
      value: 1,
      note: 'not evaluated, because they have no holdout yet, which takes about 2048 held-out tokens: mail (has about 310)',
    }),
  ]
  const { soundness, unjudged } = gateTable({ figures }, 13)
  expect(soundness.map(({ name }) => name)).toEqual(['finite loss'])
  expect(unjudged).toEqual([
    'Not evaluated, because of effort.max_holdouts: law.',
    'Not evaluated, because they have no holdout yet, which takes about 2048 held-out tokens: mail (has about 310).',
  ])
})
