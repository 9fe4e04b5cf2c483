import { expect, test } from 'vitest'
import { planRollback } from '../../../../gateway/src/adaptation/statistics/rollback-plan.ts'

/** Masks as `[version, parent]` in the order of promotion. */
const masks = (...list: [version: number, parent: number | null][]) =>
  list.map(([version, parentVersion], index) => ({
    version,
    parentVersion,
    promotedAt: index,
    updateId: `u${version}`,
  }))
const plan = (...parameters: Parameters<typeof planRollback>) => {
  const { rolledBack, kept } = planRollback(...parameters)
  const ids = (found: typeof kept) => found.map(({ updateId }) => updateId)
  return { rolledBack: ids(rolledBack), kept: ids(kept) }
}
const line = masks([1, null], [2, 1], [3, 2])

test.each([
  ['several updates back', line, 1, ['u2', 'u3'], ['u1']],
  ['one update back', line, 2, ['u3'], ['u2', 'u1']],
  ['to dense', line, 0, ['u1', 'u2', 'u3'], []],
  ['forward again', line, 3, [], ['u3', 'u2', 'u1']],
  [
    'to a mask whose successor came after a roll-back',
    masks([1, null], [2, 1], [3, 1]),
    2,
    ['u3'],
    ['u2', 'u1'],
  ],
  ['past a mask of another line', masks([1, null], [2, 1], [3, 1], [4, 3]), 3, ['u4'], ['u3', 'u1']],
  ['to an imported mask, which has no parent', masks([1, null], [2, null], [3, 2]), 2, ['u3'], ['u2']],
  [
    'where the promotion has the same time',
    masks([1, null], [2, 1]).map((mask) => ({ ...mask, promotedAt: 0 })),
    1,
    ['u2'],
    ['u1'],
  ],
])('a roll-back %s', (_name, all, version, rolledBack, kept) => {
  expect(plan(all, version)).toEqual({ rolledBack, kept })
})

test('an ancestor is kept even if it was promoted after the target, by a force', () => {
  expect(plan(masks([2, 1], [1, null]), 2)).toEqual({ rolledBack: [], kept: ['u2', 'u1'] })
})
