/** `npm run test:sanitize [-- cargo test arguments]`: the Rust tests under AddressSanitizer, where rustup has a nightly. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { CRATE } from '../build-native.mjs'

const env = { ...process.env, RUSTFLAGS: '-Zsanitizer=address', RUSTUP_AUTO_INSTALL: '0' }
const nightly = spawnSync('cargo', ['+nightly', '-vV'], { encoding: 'utf8', env })
const target = nightly.status === 0 ? /^host: (.+)$/m.exec(nightly.stdout)?.[1] : undefined
if (target !== undefined) {
  // Named, so that what the compiler itself loads (build scripts, macros) is built without it.
  const options = ['--locked', '--no-default-features', '--no-fail-fast', '--target', target]
  const args = ['+nightly', 'test', ...options, '--target-dir', join('target', 'sanitized')]
  const tests = spawnSync('cargo', [...args, ...process.argv.slice(2)], { cwd: CRATE, env, stdio: 'inherit' })
  process.exitCode = tests.status ?? 1
} else {
  process.stderr.write(
    "No nightly Rust, which sanitizers need: 'rustup toolchain install nightly' brings it.\n",
  )
  process.exitCode = 1
}
if (process.connected) process.disconnect()
