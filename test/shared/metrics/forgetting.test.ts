import { expect, test } from 'vitest'
import { backwardTransfer } from '@copal/shared/metrics/forgetting.ts'

test('backward transfer is the mean and the maximum of R_Ni − R_ii over the domains learned before the last stage', () => {
  // By hand: a has 14 − 10 = 4, b has 21 − 22 = −1; c is learned last and does not count.
  const perplexity = [
    [9, 19, 29],
    [10, 40, 60],
    [12, 22, 55],
    [14, 21, 31],
  ]
  expect(backwardTransfer({ perplexity, learnedAt: [1, 2, 3] })).toEqual({ mean: 1.5, max: 4 })
})

test('improvement on every earlier domain is negative forgetting, not zero', () => {
  const perplexity = [
    [8, 8],
    [10, 30],
    [9.5, 20],
  ]
  expect(backwardTransfer({ perplexity, learnedAt: [1, 2] })).toEqual({ mean: -0.5, max: -0.5 })
})

test('unmeasured cells are left out, and the result is null when nothing was measured', () => {
  expect(
    backwardTransfer({
      perplexity: [
        [1, 2],
        [null, 2],
        [5, 4],
        [6, 8],
      ],
      learnedAt: [1, 2],
    }),
  ).toEqual({ mean: 4, max: 4 })
  expect(backwardTransfer({ perplexity: [[1], [null], [5]], learnedAt: [1] })).toBeNull()
  expect(backwardTransfer({ perplexity: [[1], [2]], learnedAt: [1] })).toBeNull()
  expect(
    backwardTransfer({
      perplexity: [
        [1, 1],
        [2, 2],
      ],
      learnedAt: [null, null],
    }),
  ).toBeNull()
  expect(backwardTransfer({ perplexity: [], learnedAt: [] })).toBeNull()
})
