import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { watchSources } from '../../../../infra/local/processes/watch-sources.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('changes of TypeScript files that come together are reported once', async () => {
  const folder = temporaryDir()
  mkdirSync(join(folder, 'engine'))
  const changed: string[] = []
  const stopping = new AbortController()
  watchSources([folder], stopping.signal, (path) => changed.push(path))

  writeFileSync(join(folder, 'notes.md'), 'not a source')
  writeFileSync(join(folder, 'a.ts'), '')
  writeFileSync(join(folder, 'engine', 'b.ts'), '')
  await expect.poll(() => changed).toEqual([join(folder, 'engine', 'b.ts')])

  writeFileSync(join(folder, 'a.ts'), 'export {}')
  await expect.poll(() => changed).toHaveLength(2)
  stopping.abort()
})
