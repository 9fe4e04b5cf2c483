/**
 * `npm run check`: formatting, lint, types, package boundaries and dead code, and the same for Rust if cargo is
 * installed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDashboard } from '../dashboard/ensure-dashboard.ts'
import { ROOT } from '../toolchain/toolchain.mjs'
import { runCheck, toolCommand, type Command } from './run-check.ts'

interface Check extends Command {
  name: string
  /** Printed instead of a result when the check cannot run here. */
  skip?: string
}

const manifest = join('gpu-node', 'native', 'Cargo.toml')
const checks: Check[] = [
  { name: 'format (oxfmt)', ...toolCommand('oxfmt', ['--check']) },
  // The types of a file by the nearest tsconfig.json, as tsc checks them: both need the same analysis, and share it.
  {
    name: 'lint, boundaries and types (oxlint)',
    ...toolCommand('oxlint', ['--type-aware', '--type-check']),
  },
  {
    // For the shared sources that it imports: elsewhere they are checked with the types of Node.
    name: 'types of the dashboard (tsc)',
    ...toolCommand('tsc', ['-p', join('gateway', 'dashboard')], 'typescript'),
  },
  { name: 'dead code (knip)', ...toolCommand('knip', ['--no-progress']) },
  {
    name: 'size and start of the Worker (wrangler deploy --dry-run)',
    command: process.execPath,
    args: [join(ROOT, 'infra', 'deploy', 'check-bundle.ts')],
  },
  ...rustChecks(),
]

// The gateway imports what it builds.
const dashboard = ensureDashboard()
if (dashboard.error !== undefined) say(`The dashboard cannot be built:\n${dashboard.error}`)
const failed: string[] = dashboard.error === undefined ? [] : ['build of the dashboard']
for (const { name, command, args, skip } of checks) {
  if (skip !== undefined) {
    say(`-- ${name}: ${skip}`)
    continue
  }
  const startedMs = performance.now()
  const failure = runCheck({ command, args })
  if (failure !== undefined) failed.push(name)
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
  say(failure === undefined ? `ok ${name}, ${seconds} s` : `FAILED ${name}, ${seconds} s: ${failure}`)
}
say(
  failed.length === 0
    ? 'All checks passed.'
    : `Failed: ${failed.join('; ')}. 'npx oxfmt' and 'npx oxlint --fix' fix what can be fixed automatically.`,
)
process.exitCode = failed.length === 0 ? 0 : 1
if (process.connected) process.disconnect()

function rustChecks(): Check[] {
  if (!existsSync(join(ROOT, manifest))) return []
  const skip =
    spawnSync('cargo', ['--version']).status === 0 ? {} : { skip: 'skipped, cargo is not installed' }
  return [
    {
      name: 'format (rustfmt)',
      command: 'cargo',
      args: ['fmt', '--manifest-path', manifest, '--all', '--check'],
      ...skip,
    },
    {
      name: 'lint (clippy)',
      command: 'cargo',
      // In the profile of the addon, with which it shares the compiled macros and build scripts. Without the GPU crate, whose
      // dependencies take longer to check than all the rest (CONTRIBUTING.md).
      args: [
        'clippy',
        '--manifest-path',
        manifest,
        '--locked',
        '--release',
        '--package',
        'copal-native',
        '--package',
        'copal-addon',
        '--all-targets',
        '--',
        '-D',
        'warnings',
      ],
      ...skip,
    },
    oldestRust(),
  ]
}

/** Returns the check that the addon builds with the oldest Rust it supports, if rustup has that version. */
function oldestRust(): Check {
  const oldest = /^rust-version = "(.+)"$/m.exec(readFileSync(join(ROOT, manifest), 'utf8'))?.[1]
  const env = { ...process.env, RUSTUP_AUTO_INSTALL: '0' }
  const isInstalled = spawnSync('cargo', [`+${oldest}`, '--version'], { env }).status === 0
  return {
    name: `build with Rust ${oldest} (cargo check)`,
    command: 'cargo',
    args: [`+${oldest}`, 'check', '--manifest-path', manifest, '--locked'],
    ...(isInstalled ? {} : { skip: `skipped, install it with 'rustup toolchain install ${oldest}'` }),
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
