/**
 * `npm run test:sanitize [-- cargo test arguments]`: runs the Rust tests under AddressSanitizer, which needs a nightly
 * Rust.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { RUST_WORKSPACE } from '../build-addon.mjs'

const env = { ...process.env, RUSTFLAGS: '-Zsanitizer=address', RUSTUP_AUTO_INSTALL: '0' }
const nightly = spawnSync('cargo', ['+nightly', '-vV'], { encoding: 'utf8', env })
const target = nightly.status === 0 ? /^host: (.+)$/m.exec(nightly.stdout)?.[1] : undefined
if (target !== undefined) {
  // With an explicit target, build scripts and macros are built without the sanitizer.
  const crates = ['--package', 'copal-native', '--package', 'copal-addon', '--no-default-features']
  const options = ['--locked', ...crates, '--no-fail-fast', '--target', target]
  const args = ['+nightly', 'test', ...options, '--target-dir', join('target', 'sanitized')]
  const tests = spawnSync('cargo', [...args, ...process.argv.slice(2)], {
    cwd: RUST_WORKSPACE,
    env,
    stdio: 'inherit',
  })
  process.exitCode = tests.status ?? 1
} else {
  process.stderr.write(
    'The sanitizer needs a nightly Rust. Install it with: rustup toolchain install nightly\n',
  )
  process.exitCode = 1
}
if (process.connected) process.disconnect()
