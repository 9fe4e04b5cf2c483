import { expect, test } from 'vitest'
import {
  unfoldedTriangle,
  unfoldTriangle,
} from '../../../../gpu-node/src/pruning/statistics/packed-triangle.ts'

test.each([1, 2, 15, 16, 17, 33, 50])('a packed triangle of %d rows gives the symmetric matrix', (size) => {
  const pairs = Array.from({ length: size }, (_, row) =>
    Array.from({ length: size - row }, (__, distance) => [row, row + distance] as const),
  ).flat()
  const numberOf = (row: number, col: number) => 1000 * Math.min(row, col) + Math.max(row, col)
  const triangle = Float64Array.from(pairs, ([row, col]) => numberOf(row, col))
  const expected = Float64Array.from({ length: size * size }, (_, at) =>
    numberOf(Math.floor(at / size), at % size),
  )
  expect(unfoldedTriangle(triangle, size)).toEqual(expected)
  const reused = new Float64Array(size * size).fill(-1)
  unfoldTriangle(triangle, reused, size)
  expect(reused).toEqual(expected)
})
