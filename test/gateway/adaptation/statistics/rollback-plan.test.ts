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
/** The masks, of which one was imported. */
const imported = (all: ReturnType<typeof masks>, version: number) =>
  all.map((mask) => (mask.version === version ? { ...mask, updateId: `import:u${version}` } : mask))
const plan = (all: ReturnType<typeof masks>, version: number, active = version) => {
  const { rolledBack, kept } = planRollback(all, version, active)
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

test.each([
  [
    'of another line that was left before',
    masks([1, null], [2, 1], [3, 2], [4, 1]),
    4,
    3,
    ['u2', 'u3'],
    ['u4', 'u1'],
  ],
  ['that also began at the dense model', masks([1, null], [2, null]), 2, 1, ['u1'], ['u2']],
  [
    'that was imported, and has no line',
    imported(masks([1, null], [2, 1], [3, null]), 3),
    3,
    2,
    [],
    ['import:u3'],
  ],
  ['from one that was imported', imported(masks([1, null], [2, 1], [3, null]), 1), 3, 2, [], ['u3']],
])('a roll-back to a mask %s', (_name, all, version, active, rolledBack, kept) => {
  expect(plan(all, version, active)).toEqual({ rolledBack, kept })
})

test('an ancestor is kept even if it was promoted after the target, by a force', () => {
  expect(plan(masks([2, 1], [1, null]), 2)).toEqual({ rolledBack: [], kept: ['u2', 'u1'] })
})
