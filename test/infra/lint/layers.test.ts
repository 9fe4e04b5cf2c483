import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryDir } from '../../support/harness/temporary.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..')
const run = promisify(execFile)

/** Lints a tree of the given files with the rule alone and returns its findings, one a line. */
async function lint(files: Record<string, string>): Promise<string[]> {
  const folder = temporaryDir()
  const config = {
    jsPlugins: ['./layers.mjs'],
    categories: { correctness: 'off' },
    rules: { 'copal/layers': 'error' },
  }
  cpSync(join(ROOT, 'infra/lint/layers.mjs'), join(folder, 'layers.mjs'))
  for (const [path, text] of Object.entries({ ...files, '.oxlintrc.json': JSON.stringify(config) })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  const oxlint = join(ROOT, 'node_modules', 'oxlint', 'bin', 'oxlint')
  const { stdout } = await run(process.execPath, [oxlint, '--format=unix', 'gateway', 'gpu-node'], {
    cwd: folder,
  }).catch((failed: { stdout: string }) => failed)
  return stdout.split('\n').filter((line) => line.includes('copal(layers)'))
}

const ABOVE = { 'gateway/src/inference/above.ts': 'export const x = 1', 'gpu-node/src/main.ts': '' }

test.each([
  ['an import', "import { x } from '../inference/above.ts'\nx"],
  ['a type import', "import type { x } from '../inference/above.ts'\nexport type y = typeof x"],
  ['a type in place', "export type y = typeof import('../inference/above.ts')"],
  ['a re-export', "export * from '../inference/above.ts'"],
  ['a dynamic import', "export const y = await import('../inference/above.ts')"],
])('%s that goes up the layers is an error', async (_, text) => {
  const found = await lint({ ...ABOVE, 'gateway/src/telemetry/spans.ts': text })
  expect(found).toHaveLength(1)
  expect(found[0]).toContain('gateway/src/inference/above.ts, which stands above it')
})

test('an import that goes down, or stays in its folder, is allowed', async () => {
  const found = await lint({
    ...ABOVE,
    'gateway/src/telemetry/spans.ts': "export * from './names.ts'",
    'gateway/src/telemetry/names.ts': 'export const name = 1',
    'gateway/src/inference/other.ts': "export * from '../telemetry/spans.ts'\nexport * from './above.ts'",
  })
  expect(found).toEqual([])
})

test('the halves cannot import each other, by path or by package', async () => {
  const found = await lint({
    ...ABOVE,
    'gateway/src/telemetry/spans.ts': "export * from '../../../gpu-node/src/main.ts'",
    'gateway/src/telemetry/names.ts': "export * from '@copal/gpu-node/main.ts'",
    'gpu-node/src/platform/files.ts': "export * from '../../../gateway/src/inference/above.ts'",
  })
  expect(found).toHaveLength(3)
  for (const line of found) expect(line).toContain('no list of layers has both')
})

test('a folder without a place in the layers is an error', async () => {
  const found = await lint({
    ...ABOVE,
    'gateway/src/attic/box.ts': "export * from '../inference/above.ts'",
  })
  expect(found).toHaveLength(1)
  expect(found[0]).toContain('The folder of gateway/src/attic/box.ts is missing')
})
