import { expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { readDrift } from '../../../../gpu-node/cli/api/read-drift.ts'
import { describeDrift } from '../../../../gpu-node/cli/commands/drift.ts'
import { renderTable } from '../../../../gpu-node/cli/output/table.ts'

test('after a rollback the backward transfer is that of the active mask, not of the last one', () => {
  const report: DriftReport = {
    model: 'tiny',
    active_version: 2,
    traffic: [],
    r: {
      domains: ['law', 'mail'],
      stages: [
        { mask_version: 0, calibrated_domains: [] },
        { mask_version: 1, calibrated_domains: ['law'] },
        { mask_version: 2, calibrated_domains: ['mail'] },
        { mask_version: 3, calibrated_domains: ['law'] },
      ],
      perplexity: [
        [10, 20],
        [11, 21],
        [12, 20.5],
        [11, 22],
      ],
      holdouts: [
        { domain: 'law', version: 2, sha256: '' },
        { domain: 'mail', version: 1, sha256: '' },
      ],
      backward_transfer: { mean: 1, max: 1 },
      forgetting: [
        {
          domain: 'law',
          holdout_version: 2,
          first: { mask_version: 1, perplexity: 11, difference: 1 },
          best: null,
          active: 12,
        },
      ],
    },
  }
  const text = describeDrift(report, (columns, rows) => renderTable(columns, rows, 80))
  expect(text).toMatch(/\nm3 .*\n\nEach column .*: law v2; the others v1\.\n/)
  expect(text).toMatch(/\nlaw +v2 +12\.00 +m1 11\.00 \(\+1\.000\) +-\n/)
  expect(text).toMatch(/\n\nBackward transfer of m2: mean \+1\.000, worst \+1\.000/)
})

test('the general holdout beside a domain of a like name is explained', () => {
  const r = {
    domains: ['general', '(general)'],
    stages: [{ mask_version: 0, calibrated_domains: [] }],
    perplexity: [[33, 31]],
    holdouts: [],
    backward_transfer: null,
    forgetting: [],
  }
  const describe = (domains: string[]) =>
    describeDrift({ model: 'tiny', active_version: 0, traffic: [], r: { ...r, domains } }, (columns, rows) =>
      renderTable(columns, rows, 80),
    )
  expect(describe(['general', '(general)'])).toContain(
    '(general) is the general holdout (npx copal holdout show).',
  )
  expect(describe(['general', 'mail'])).not.toContain('general holdout')
})

test('a report of many domains is read page by page, and masks that it leaves out are counted', async () => {
  const page = (domain: string, next_after: string | null): DriftReport => ({
    model: 'tiny',
    active_version: 0,
    traffic: [],
    r: {
      domains: [domain],
      stages: [{ mask_version: 0, calibrated_domains: [] }],
      earlier_stages: 3,
      perplexity: [[31]],
      holdouts: [],
      backward_transfer: null,
      forgetting: [],
    },
    next_after,
  })
  const asked: string[] = []
  const report = await readDrift(
    {
      admin: <T>(_method: string, path: string) => {
        asked.push(path)
        return Promise.resolve((path.includes('after=law') ? page('mail', null) : page('law', 'law')) as T)
      },
    },
    'tiny',
  )
  expect(asked).toEqual(['/drift?limit=1000&model=tiny', '/drift?limit=1000&model=tiny&after=law'])
  const text = describeDrift(report, (columns, rows) => renderTable(columns, rows, 80))
  expect(text).toMatch(/\nMASK +law +mail\n/)
  expect(text).toContain('3 earlier masks left out.')
})
