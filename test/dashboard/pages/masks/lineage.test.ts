import { expect, test } from 'vitest'
import { lineageRows, type LineageMask } from '../../../../gateway/dashboard/src/pages/masks/lineage.ts'

const maskOf = (version: number, parent: number | null, active = false): LineageMask => ({
  version,
  parent_version: parent,
  active,
  promoted_at: '2026-11-28T02:00:00.000Z',
})

test('masks that descend from each other are one line down to the dense weights', () => {
  const { rows, lanes } = lineageRows([maskOf(1, null), maskOf(2, 1), maskOf(3, 2, true)], 3)
  expect(lanes).toBe(1)
  expect(rows.map(({ version, up, down }) => [version, up, down])).toEqual([
    [3, false, true],
    [2, true, true],
    [1, true, true],
    [0, true, false],
  ])
  expect(rows.every(({ onLine }) => onLine)).toBe(true)
})

test('a mask that was not promoted branches off, and its line joins that of its parent', () => {
  const { rows, lanes } = lineageRows([maskOf(1, null), maskOf(2, 1), maskOf(3, 1), maskOf(4, 3, true)], 4)
  expect(lanes).toBe(2)
  expect(rows.map(({ version, lane, passing, joins }) => ({ version, lane, passing, joins }))).toEqual([
    { version: 4, lane: 0, passing: [], joins: [] },
    { version: 3, lane: 0, passing: [], joins: [] },
    { version: 2, lane: 1, passing: [0], joins: [] },
    { version: 1, lane: 0, passing: [], joins: [1] },
    { version: 0, lane: 0, passing: [], joins: [] },
  ])
})

test('branches that do not overlap share a lane, and those that do have their own', () => {
  const apart = [maskOf(1, null), maskOf(2, 1), maskOf(3, 1), maskOf(4, 3), maskOf(5, 3, true)]
  expect(lineageRows(apart, 5).lanes).toBe(2)
  const together = [maskOf(1, null), maskOf(2, 1), maskOf(3, 1), maskOf(4, 1, true)]
  expect(lineageRows(together, 4).lanes).toBe(3)
})

test('a branch of several masks keeps its lane', () => {
  const { rows } = lineageRows([maskOf(1, null), maskOf(2, 1), maskOf(3, 2), maskOf(4, 1, true)], 4)
  expect(rows.map(({ version, lane }) => [version, lane])).toEqual([
    [4, 0],
    [3, 1],
    [2, 1],
    [1, 0],
    [0, 0],
  ])
})

test('while the dense weights serve, the newest mask that was active is the line', () => {
  const rejected = { ...maskOf(3, 2), promoted_at: null }
  const { rows } = lineageRows([maskOf(1, null), maskOf(2, 1), rejected], 0)
  expect(rows.filter(({ onLine }) => onLine).map(({ version }) => version)).toEqual([2, 1, 0])
})

test('a mask whose parent is gone hangs on the dense weights', () => {
  expect(lineageRows([maskOf(7, 6, true)], 7).rows.map(({ version }) => version)).toEqual([7, 0])
})
