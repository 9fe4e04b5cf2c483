import { expect, test } from 'vitest'
import { readText, repositoryFiles, tableWith } from './markdown.ts'

test('log lines that the operations page says to watch for are written by the code', () => {
  const { rows } = tableWith(readText('docs/operations.md'), 'Line that is worth an alert')
  const lines = rows.flatMap(([cell = '']) => [...cell.matchAll(/`([^`]+)`/g)].map(([, line = '']) => line))
  const sources = repositoryFiles('gateway/src', 'gpu-node/src')
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readText(path))
    .join('\n')
    // A message that is broken into several string literals.
    .replace(/['`] \+\s+['`]/g, '')
  expect(lines.length).toBeGreaterThan(8)
  expect(lines.filter((line) => !sources.includes(line))).toEqual([])
})
