import { expect, test } from 'vitest'
import type { ModelRow } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { createLabelBounds, masksInForce } from '../../../../gateway/src/usage/metrics/label-bounds.ts'

const MODEL: ModelRow = {
  id: 'tiny',
  baseSha256: '0'.repeat(64),
  contextLength: 128,
  parameters: 1,
  activeVersion: 3,
  previousVersion: 2,
  revision: 1,
  createdAt: 0,
  canary: null,
  shadow: null,
  watch: null,
  domainVersions: new Map([['legal', 1]]),
}

test('masks in force are dense, the active and the previous one, and those of single domains', () => {
  expect(masksInForce([MODEL])).toEqual([0, 3, 2, 1].map((version) => ({ model: 'tiny', version })))
})

test('only named domains of a model have series of their own', () => {
  const bounds = createLabelBounds([{ model: 'tiny', domain: 'legal' }])
  expect(bounds.domain('tiny', 'legal')).toBe('legal')
  expect(bounds.domain('tiny', 'code')).toBe('(other)')
  expect(bounds.domain('other', 'legal')).toBe('(other)')
})
