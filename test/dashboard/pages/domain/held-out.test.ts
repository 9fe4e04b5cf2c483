import { expect, test } from 'vitest'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import {
  changesFromDense,
  perplexityByMask,
} from '../../../../gateway/dashboard/src/pages/domain/held-out.ts'

const matrix: DriftReport['r'] = {
  domains: ['code', 'speech'],
  stages: [
    { mask_version: 0, calibrated_domains: [] },
    { mask_version: 3, calibrated_domains: ['code'] },
  ],
  perplexity: [
    [4, null],
    [5, 9],
  ],
  holdouts: [],
  backward_transfer: null,
  forgetting: [],
}

test('changes are those from dense, and unknown where dense is', () => {
  expect(changesFromDense(matrix)).toEqual([
    [0, null],
    [25, null],
  ])
})

test('a domain has a row for each mask that it was judged under', () => {
  expect(perplexityByMask(matrix, 'code')).toEqual([
    { version: 0, perplexity: 4, change: null, isCalibrated: false },
    { version: 3, perplexity: 5, change: 25, isCalibrated: true },
  ])
  expect(perplexityByMask(matrix, 'speech')).toEqual([
    { version: 3, perplexity: 9, change: null, isCalibrated: false },
  ])
  expect(perplexityByMask(matrix, 'poetry')).toEqual([])
})
