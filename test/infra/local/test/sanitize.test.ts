import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('without a nightly Rust it fails with one line', () => {
  const sanitize = join(ROOT, 'infra', 'local', 'test', 'sanitize.ts')
  const env = { ...process.env, PATH: temporaryDir() }
  const { status, stdout, stderr } = spawnSync(process.execPath, [sanitize], { encoding: 'utf8', env })
  expect([status, stdout, stderr]).toEqual([
    1,
    '',
    'The sanitizer needs a nightly Rust. Install it with: rustup toolchain install nightly\n',
  ])
})
