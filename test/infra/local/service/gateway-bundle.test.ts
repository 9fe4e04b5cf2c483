import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gatewayBundle } from '../../../../infra/local/service/gateway-bundle.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'copal-bundle-'))
  for (const folder of ['node_modules/wrangler/bin', 'gateway/dashboard', 'shared/src'])
    mkdirSync(join(root, folder), { recursive: true })
  writeFileSync(join(root, 'package-lock.json'), '{}')
  writeFileSync(join(root, 'gateway/dashboard/build.mjs'), '')
  writeFileSync(
    join(root, 'wrangler.toml'),
    'name = "gateway"\nmain = "index.js"\ncompatibility_date = "2026-11-01"\n',
  )
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** Puts a Wrangler into the checkout that writes these files and exits with 0. */
function installWrangler(files: readonly string[]): void {
  const script = `
    const { writeFileSync } = require('node:fs')
    const folder = process.argv[process.argv.indexOf('--outdir') + 1]
    for (const file of ${JSON.stringify(files)}) writeFileSync(folder + '/' + file, 'export default {}')`
  writeFileSync(join(root, 'node_modules/wrangler/bin/wrangler.js'), script)
}

test('what an interrupted Wrangler leaves is no bundle, and the next start builds it', async () => {
  installWrangler(['README.md'])
  await expect(gatewayBundle(root)).rejects.toThrow(
    'The gateway cannot be bundled:\nWrangler ended too early.',
  )
  expect(
    readdirSync(join(root, 'node_modules/.cache')).filter((name) => name.startsWith('gateway-')),
  ).toEqual([])
  installWrangler(['README.md', 'index.js'])
  const { scriptPath, optionsPath } = await gatewayBundle(root)
  expect(readFileSync(scriptPath, 'utf8')).toBe('export default {}')
  expect(JSON.parse(readFileSync(optionsPath, 'utf8'))).toMatchObject({ compatibilityDate: '2026-11-01' })
})

test('a bundle without its script, which earlier versions kept, is built anew', async () => {
  installWrangler(['index.js'])
  const { scriptPath } = await gatewayBundle(root)
  rmSync(scriptPath)
  expect(await gatewayBundle(root)).toMatchObject({ scriptPath })
  expect(readFileSync(scriptPath, 'utf8')).toBe('export default {}')
})
