import { expect, test } from 'vitest'
import { RejectionCounts } from '../../../../gateway/src/fleet/object/rejection-counts.ts'

test('requests for unknown models share one count, and each served model has its own', () => {
  const refusals = new RejectionCounts((model) => model === 'served')
  for (let index = 0; index < 100; index += 1)
    refusals.count({ tenant: 'acme', model: `invented-${index}` }, 'unknown')
  refusals.count({ tenant: 'acme', model: 'served' }, 'full')
  expect(refusals.list()).toEqual([
    { tenant: 'acme', model: '(unknown)', reason: 'unknown', requests: 100 },
    { tenant: 'acme', model: 'served', reason: 'full', requests: 1 },
  ])
})

test('a client that left is not counted as rejected', () => {
  const refusals = new RejectionCounts(() => true)
  refusals.count({ model: 'served' }, 'left')
  expect(refusals.list()).toEqual([])
})

test('counts beyond the maximum are combined by reason', () => {
  const refusals = new RejectionCounts(() => true, 2)
  for (const tenant of ['a', 'b', 'c', 'd', 'a']) refusals.count({ tenant, model: 'served' }, 'full')
  expect(refusals.list()).toEqual([
    { tenant: 'a', model: 'served', reason: 'full', requests: 2 },
    { tenant: 'b', model: 'served', reason: 'full', requests: 1 },
    { tenant: '(other)', model: '(other)', reason: 'full', requests: 2 },
  ])
})
