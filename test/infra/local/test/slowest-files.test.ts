import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { slowestLines } from '../../../../infra/local/test/slowest-files.ts'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { SLOW_FILES } from '../../../support/harness/slowest-first.ts'

test('the ten slowest files are listed, the slowest first', () => {
  const files = Array.from({ length: 12 }, (_, index) => ({
    name: `unit test/${index}.test.ts`,
    durationMs: 100 * ((index * 5) % 12),
  }))
  const lines = slowestLines(files)
  expect(lines).toHaveLength(1 + 10)
  expect(lines.slice(0, 3)).toEqual([
    '\nSlowest files:\n',
    '     1.1 s  unit test/7.test.ts\n',
    '     1.0 s  unit test/2.test.ts\n',
  ])
  expect(lines.at(-1)).toBe('     0.2 s  unit test/10.test.ts\n')
})

test('a run without files lists none', () => {
  expect(slowestLines([])).toEqual([])
})

test('every file that starts first because it is slow exists', () => {
  expect(Object.keys(SLOW_FILES).filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
})
