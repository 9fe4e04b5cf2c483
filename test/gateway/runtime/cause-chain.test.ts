import { expect, test } from 'vitest'
import { causeChain } from '../../../gateway/src/runtime/cause-chain.ts'

test('a circular chain of causes is cut', () => {
  const first = new Error('first')
  const second = new Error('second', { cause: first })
  first.cause = second
  expect(causeChain(first)).toEqual([first, second])
})
