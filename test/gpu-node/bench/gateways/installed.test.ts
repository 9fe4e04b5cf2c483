import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { findLitellm, findPortkey } from '../../../../gpu-node/bench/gateways/installed.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const SCRIPT = join('node_modules', '@portkey-ai', 'gateway', 'build', 'start-server.js')

test('a missing program is reported in one line with the command that installs it', () => {
  const portkey = findPortkey(undefined, temporaryDir())
  expect(portkey).toEqual({
    missing: expect.stringMatching(
      /^Portkey .*npm install --legacy-peer-deps --prefix .*--portkey <folder>$/,
    ),
  })
  const litellm = findLitellm(undefined, '')
  expect(litellm).toEqual({ missing: expect.stringMatching(/^LiteLLM .*pip install .*--litellm <folder>$/) })
})

test('a given folder without the program is an error', () => {
  const dir = temporaryDir()
  expect(() => findPortkey(dir, '')).toThrow(`--portkey: ${join(dir, SCRIPT)} does not exist`)
  expect(() => findLitellm(dir, '')).toThrow(`--litellm: ${join(dir, 'bin', 'litellm')} does not exist`)
})

test('both are found in the given folder and on the PATH', () => {
  const dir = temporaryDir()
  const script = put(dir, SCRIPT)
  const command = put(dir, join('bin', 'litellm'))
  expect(findPortkey(dir, '')).toEqual({ found: { script } })
  expect(findLitellm(dir, '')).toEqual({ found: { command } })
  symlinkSync(script, join(dir, 'bin', 'gateway'))
  expect(findPortkey(undefined, join(dir, 'bin'))).toEqual({ found: { script } })
  expect(findLitellm(undefined, join(dir, 'bin'))).toEqual({ found: { command } })
})

test("another program named 'gateway' is not mistaken for Portkey", () => {
  const dir = temporaryDir()
  put(dir, 'gateway')
  expect(findPortkey(undefined, dir)).toHaveProperty('missing')
})

function put(dir: string, name: string): string {
  const path = join(dir, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, '')
  chmodSync(path, 0o755)
  return path
}
