import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '..', '..', '..')

test('an image gets nothing that git ignores, such as secrets and the home of a service', () => {
  const linesOf = (name: string) =>
    readFileSync(join(ROOT, name), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
  // Without a slash inside, git means any folder, and Docker the root alone.
  const ignored = linesOf('.gitignore').map((line) => {
    const path = line.replace(/\/$/, '')
    return path.includes('/') ? path : `**/${path}`
  })
  expect(linesOf('.dockerignore')).toEqual([...ignored, '.git'])
})
