/** Tables of documents are whole: a bar too many, or an empty line, cuts them. */
import { expect, test } from 'vitest'
import { readText, repositoryFiles, tablesOf } from './markdown.ts'

const tables = repositoryFiles()
  .filter((path) => path.endsWith('.md'))
  .flatMap((path) => tablesOf(readText(path)).map((table) => ({ path, ...table })))

test('rows have as many cells as the header', () => {
  const wrong = tables.flatMap(({ path, header, rows }) =>
    rows.filter((row) => row.length !== header.length).map((row) => `${path}: ${row.join(' | ')}`),
  )
  expect(tables.length).toBeGreaterThan(100)
  expect(wrong).toEqual([])
})

test('headers are followed by rows', () => {
  const cut = tables.filter(({ rows }) => rows.length === 0)
  expect(cut.map(({ path, header }) => `${path}: ${header.join(' | ')}`)).toEqual([])
})
