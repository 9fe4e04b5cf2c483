import { expect, test } from 'vitest'
import { trafficWeights } from '../../../../gateway/src/adaptation/holdouts/traffic-weights.ts'

test('domains weigh by their traffic; one that is updated without traffic weighs like an average one', () => {
  const tokens = new Map([
    ['busy', 300],
    ['quiet', 100],
    ['elsewhere', 5000],
  ])
  const weights = trafficWeights(['busy', 'quiet', 'new', 'idle'], ['new', 'busy'], tokens)
  expect(Object.fromEntries(weights)).toEqual({ busy: 300, quiet: 100, new: 200, idle: 0 })
})

test('without any traffic all domains weigh the same', () => {
  expect([...trafficWeights(['a', 'b'], ['a'], new Map()).values()]).toEqual([1, 1])
})
