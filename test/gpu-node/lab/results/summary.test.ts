import { describe, expect, test } from 'vitest'
import type { LabRun } from '../../../../gpu-node/lab/results/lab-results.ts'
import { hasWeightStasis, meansOfMaxima, summarise } from '../../../../gpu-node/lab/results/summary.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

describe('the four figures of the paper', () => {
  // Two permutations of three datasets. Computed by hand:
  // forgetting R_3i − R_ii: 14 − 10 = 4, 21 − 20 = 1; and 33 − 30 = 3, 9 − 10 = −1.
  // cells j ≥ i: 10, 12, 20, 14, 21, 30 = 107; and 30, 31, 10, 33, 9, 18 = 131.
  const matrices = [
    {
      order: ['a', 'b', 'c'],
      R: [
        [10, null, null],
        [12, 20, null],
        [14, 21, 30],
      ],
      churn: [0.1, 0.05],
    },
    {
      order: ['c', 'a', 'b'],
      R: [
        [30, null, null],
        [31, 10, null],
        [33, 9, 18],
      ],
      churn: [0.2, 0],
    },
  ]

  test('are means and maxima over every permutation and every stage at or after the dataset', () => {
    expect(summarise(matrices)).toEqual({
      aBwt: (4 + 1 + 3 - 1) / 4,
      mBwt: 4,
      aPpl: (107 + 131) / 12,
      mPpl: 33,
      weightStasis: false,
    })
  })

  test('have the means over permutations of the maximum of each beside them', () => {
    expect(meansOfMaxima(matrices)).toEqual({ mBwt: (4 + 3) / 2, mPpl: (30 + 33) / 2 })
  })

  test('are of all orders of seven datasets, too', () => {
    const order = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    const R = order.map((_, stage) => order.map((__, position) => (position > stage ? null : 10 + stage)))
    const all = Array.from({ length: 5040 }, () => ({ order, R, churn: [] }))
    expect(summarise(all)).toMatchObject({ aBwt: 3.5, mBwt: 6, aPpl: 14, mPpl: 16 })
  })

  test('do not count perplexities on later datasets', () => {
    const [first] = matrices
    const early = first!.R.map((row) => row.map((cell) => cell ?? 1e6))
    expect(summarise([{ ...first!, R: early }])).toEqual(summarise([first!]))
  })

  test('a permutation without its last stage has perplexities and no forgetting', () => {
    const R = [
      [10, null, null],
      [12, 20, null],
      [null, null, null],
    ]
    expect(summarise([{ order: ['a', 'b', 'c'], R, churn: [0.1, 0.1] }])).toEqual({
      aBwt: null,
      mBwt: null,
      aPpl: 14,
      mPpl: 20,
      weightStasis: false,
    })
  })

  test('improvement on every earlier dataset is a negative maximum', () => {
    const R = [
      [10, null],
      [9, 20],
    ]
    expect(summarise([{ order: ['a', 'b'], R, churn: [0.1] }])).toMatchObject({ aBwt: -1, mBwt: -1 })
  })
})

describe('weight stasis', () => {
  const R = [
    [10, null],
    [10, 20],
  ]

  test('means that the mask changed at no stage of any permutation', () => {
    const still = { order: ['a', 'b'], R, churn: [0] }
    expect(summarise([still, { ...still, order: ['b', 'a'] }])?.weightStasis).toBe(true)
    expect(summarise([still, { ...still, churn: [0.01] }])?.weightStasis).toBe(false)
  })

  test('is not reported for a single dataset', () => {
    expect(summarise([{ order: ['a'], R: [[10]], churn: [] }])).toEqual({
      aBwt: null,
      mBwt: null,
      aPpl: 10,
      mPpl: 10,
      weightStasis: false,
    })
  })
})

describe('WS', () => {
  const matrices = [
    {
      order: ['a', 'b'],
      R: [
        [10, null],
        [12, 20],
      ],
      churn: [0],
    },
  ]
  const [run] = generatedResults().runs
  const still = (method: string, ...masks: string[]): LabRun => {
    const stages = masks.map((maskSha256) => ({ ...run!.stages[0]!, maskSha256 }))
    return { ...run!, method, stages, matrices, summary: summarise(matrices) }
  }

  test('is reported if neither the mask nor a surviving weight changed', () => {
    expect(hasWeightStasis(still('magnitude', 'm'))).toBe(true)
    // The files differ only in the names of the domains.
    expect(hasWeightStasis(still('continual-wanda', 'm', 'n'))).toBe(true)
    expect(hasWeightStasis({ ...still('magnitude', 'm'), summary: null })).toBe(false)
  })

  test('is not reported if surviving weights may have changed under the same mask', () => {
    expect(hasWeightStasis(still('magnitude+reconstruct', 'm', 'n'))).toBe(false)
    expect(hasWeightStasis(still('continual-sparsegpt', 'm', 'n'))).toBe(false)
    expect(hasWeightStasis(still('magnitude+reconstruct', 'm', 'm'))).toBe(true)
    expect(hasWeightStasis(still('of-a-newer-copal', 'm', 'n'))).toBe(false)
  })
})

test('no permutation gives no summary', () => {
  expect(summarise([])).toBeNull()
})
