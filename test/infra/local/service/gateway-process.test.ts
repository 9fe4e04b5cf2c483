import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { gatewayPart } from '../../../../infra/local/service/gateway-process.ts'
import { openHome } from '../../../../infra/local/service/home.ts'
import { readSettings } from '../../../../infra/local/service/service-settings.ts'

test('the gateway starts again although its build was removed, as another checkout of the sources does after a day', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'copal-gateway-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const built = join(dir, 'built')
  mkdirSync(built)
  const bundle = { scriptPath: join(built, 'index.js'), optionsPath: join(built, 'options.json') }
  writeFileSync(bundle.scriptPath, 'export default {}')
  writeFileSync(bundle.optionsPath, '{}')
  const home = join(dir, 'home')
  mkdirSync(home)
  const part = gatewayPart(readSettings({ COPAL_HOME: home }), openHome(home), bundle)
  rmSync(built, { recursive: true })
  const child = part.spawn()
  process.kill(-(child.pid ?? 0), 'SIGKILL')
  await once(child, 'exit')
  const { scriptPath, optionsPath } = JSON.parse(child.spawnargs.at(-1) ?? '') as typeof bundle
  expect([scriptPath, optionsPath].map((path) => existsSync(path))).toEqual([true, true])
})
