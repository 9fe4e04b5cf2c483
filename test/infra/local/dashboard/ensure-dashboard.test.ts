import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ensureDashboard } from '../../../../infra/local/dashboard/ensure-dashboard.ts'

let root: string
const write = (path: string, text: string) => writeFileSync(join(root, path), text)
const MODULE = 'gateway/dashboard/built-files.mjs'
const built = () => readFileSync(join(root, MODULE), 'utf8')

/** A build that copies one source, as the real one bundles many. */
const BUILD = `
import { copyFileSync } from 'node:fs'
copyFileSync(import.meta.dirname + '/src/page.html', import.meta.dirname + '/built-files.mjs')
`

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'copal-dashboard-'))
  for (const dir of ['gateway/dashboard/src', 'shared/src']) mkdirSync(join(root, dir), { recursive: true })
  write('package-lock.json', '{}')
  write('shared/src/wire.ts', 'export {}')
  write('gateway/dashboard/build.mjs', BUILD)
  write('gateway/dashboard/src/page.html', 'first')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

test('the dashboard is built when its sources, what they import or the packages changed, and only then', () => {
  expect(ensureDashboard(root)).toEqual({ built: true })
  expect(built()).toBe('first')
  expect(ensureDashboard(root)).toEqual({ built: false })
  for (const [path, text] of [
    ['gateway/dashboard/src/page.html', 'second'],
    ['shared/src/wire.ts', 'export const a = 1'],
    ['package-lock.json', '{"a":1}'],
  ] as const) {
    write(path, text)
    expect([path, ensureDashboard(root)]).toEqual([path, { built: true }])
    expect(ensureDashboard(root)).toEqual({ built: false })
  }
  expect(built()).toBe('second')
  rmSync(join(root, MODULE))
  expect(ensureDashboard(root)).toEqual({ built: true })
})

test('a build that is killed says so', () => {
  write('gateway/dashboard/build.mjs', "process.kill(process.pid, 'SIGKILL')")
  expect(ensureDashboard(root)).toEqual({ error: 'The build was ended by SIGKILL.' })
})

test('a build that fails says why, is tried again, and leaves a module without files, which the Worker needs', () => {
  write('gateway/dashboard/build.mjs', 'console.error("no such thing"); process.exit(1)')
  for (let i = 0; i < 2; i += 1)
    expect(ensureDashboard(root)).toEqual({ error: expect.stringContaining('no such thing') as string })
  expect(built()).toBe('export const files = []\n')
})
