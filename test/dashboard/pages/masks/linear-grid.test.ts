import { expect, test } from 'vitest'
import { extremesOf, linearGrid } from '../../../../gateway/dashboard/src/pages/masks/linear-grid.ts'

const linears = [
  { layer: 1, kind: 'down_proj', value: 0.6 },
  { layer: 0, kind: 'q_proj', value: 0.4 },
  { layer: 0, kind: 'down_proj', value: 0.5 },
]

test('values stand by kind in the order of a block, and by layer; a missing linear is a gap', () => {
  expect(linearGrid(linears)).toEqual({
    kinds: ['q_proj', 'down_proj'],
    layers: [0, 1],
    values: [
      [0.4, null],
      [0.5, 0.6],
    ],
  })
})

test('the extremes are the linears with the largest and the smallest value', () => {
  expect(extremesOf(linears)).toEqual({ most: linears[0], least: linears[1] })
  expect(extremesOf([])).toBeUndefined()
})
