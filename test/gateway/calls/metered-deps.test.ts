import { expect, test } from 'vitest'
import { createCallBudget } from '../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../gateway/src/calls/metered-deps.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'

test('methods that are named like those of every object are counted too', () => {
  const calls = createCallBudget(1)
  const { artifacts } = meterDeps(testDeps(), calls)
  artifacts.valueOf()
  expect(calls.left).toBe(0)
})
