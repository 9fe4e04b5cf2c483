import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { buildNative, CRATE } from '../../../infra/local/build-native.mjs'
import { temporaryDir } from '../../support/temporary.ts'

if (spawnSync('cargo', ['--version']).status === 0) testWithCargo()

test('without cargo it says so in one line and goes on', async () => {
  const crate = temporaryDir()
  cpSync(CRATE, crate, { recursive: true, filter: (source) => !/target|\.node/.test(source) })
  const said: string[] = []
  expect(await buildNative((line) => said.push(line), { cargo: 'no-such-cargo', crate })).toBe('no-cargo')
  expect(said).toEqual(['No cargo here: the native addon is not built.'])
})

function testWithCargo(): void {
  test('what is built already is not built again', async () => {
    await buildNative(() => undefined)
    const said: string[] = []
    expect(await buildNative((line) => said.push(line))).toBe('fresh')
    expect(said).toEqual([])
  })

  test('a crate that does not compile fails with what cargo said', async () => {
    const crate = temporaryDir()
    mkdirSync(join(crate, 'src'))
    writeFileSync(
      join(crate, 'Cargo.toml'),
      '[package]\nname = "broken"\nversion = "0.0.0"\nedition = "2024"\n',
    )
    writeFileSync(
      join(crate, 'Cargo.lock'),
      'version = 4\n\n[[package]]\nname = "broken"\nversion = "0.0.0"\n',
    )
    writeFileSync(join(crate, 'build.rs'), 'fn main() {}\n')
    writeFileSync(join(crate, 'src', 'lib.rs'), 'pub fn nothing() -> u8 { "text" }\n')
    await expect(buildNative(() => undefined, { crate })).rejects.toThrow(
      /could not build.*mismatched types/s,
    )
  })

  test('the Rust tests pass', { timeout: 900_000 }, () => {
    const args = ['test', '--locked', '--no-default-features', '--quiet']
    const { status, stdout, stderr } = spawnSync('cargo', args, { cwd: CRATE, encoding: 'utf8' })
    expect(status, `${stdout}\n${stderr}`).toBe(0)
    expect(stdout).toMatch(/test result: ok\. [1-9]/)
  })
}
