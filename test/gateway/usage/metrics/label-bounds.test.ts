import { expect, test } from 'vitest'
import type { ModelRow } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { createLabelBounds } from '../../../../gateway/src/usage/metrics/label-bounds.ts'

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
const seen = Array.from({ length: 40 }, (_, version) => ({ model: 'tiny', maskVersion: version }))

test('masks in force and the ten newest have series, also dense, and the others have none', () => {
  const bounds = createLabelBounds([MODEL], [], seen)
  const shown = seen
    .map(({ maskVersion }) => maskVersion)
    .filter((version) => bounds.showsMask('tiny', version))
  expect(shown).toEqual([0, 1, 2, 3, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39])
  expect(bounds.showsMask('other', 3)).toBe(false)
})

test('only named domains of a model have series of their own', () => {
  const bounds = createLabelBounds([MODEL], [{ model: 'tiny', domain: 'legal' }], seen)
  expect(bounds.domain('tiny', 'legal')).toBe('legal')
  expect(bounds.domain('tiny', 'code')).toBe('(other)')
  expect(bounds.domain('other', 'legal')).toBe('(other)')
})
