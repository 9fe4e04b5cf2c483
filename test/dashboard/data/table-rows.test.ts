import { expect, test } from 'vitest'
import { filterRows, nextOrder, sortRows, toCsv } from '../../../gateway/dashboard/src/data/table-rows.ts'

interface Row {
  name: string
  size: number | null
}
const columns = [
  { key: 'name', title: 'Name', value: ({ name }: Row) => name },
  { key: 'size', title: 'Size', value: ({ size }: Row) => size },
]
const rows: Row[] = [
  { name: 'mask 10', size: 3 },
  { name: 'mask 9', size: null },
  { name: 'Other', size: 1 },
]
const names = (found: readonly Row[]) => found.map(({ name }) => name)

test('every word must be in a row, whatever its case', () => {
  expect(names(filterRows(rows, columns, 'MASK 1'))).toEqual(['mask 10'])
  expect(names(filterRows(rows, columns, '  '))).toEqual(names(rows))
  expect(filterRows(rows, columns, 'mask other')).toEqual([])
})

test('numbers in names sort as numbers, and missing values come last in both directions', () => {
  expect(names(sortRows(rows, columns, { key: 'name', descending: false }))).toEqual([
    'mask 9',
    'mask 10',
    'Other',
  ])
  expect(names(sortRows(rows, columns, { key: 'size', descending: false }))).toEqual([
    'Other',
    'mask 10',
    'mask 9',
  ])
  expect(names(sortRows(rows, columns, { key: 'size', descending: true }))).toEqual([
    'mask 10',
    'Other',
    'mask 9',
  ])
  expect(names(sortRows(rows, columns, undefined))).toEqual(names(rows))
})

test('a heading sorts up, then down, then up', () => {
  const first = nextOrder(undefined, 'name')
  const second = nextOrder(first, 'name')
  expect([first, second, nextOrder(second, 'name')].map(({ descending }) => descending)).toEqual([
    false,
    true,
    false,
  ])
})

test('CSV quotes what must be quoted and runs no formulas', () => {
  const csv = toCsv(
    [
      { name: 'a "b", c', size: 1.5 },
      { name: '=HYPERLINK("x")', size: null },
    ],
    columns,
  )
  expect(csv).toBe('Name,Size\r\n"a ""b"", c",1.5\r\n"\'=HYPERLINK(""x"")",\r\n')
})
