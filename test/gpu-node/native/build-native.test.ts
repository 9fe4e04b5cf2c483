import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { RUST_WORKSPACE } from '../../../infra/local/build-addon.mjs'
import { buildNative, offerNative } from '../../../infra/local/build-native.mjs'
import { isAlive } from '../../../gpu-node/src/platform/process-identity.ts'
import { until } from '../../support/processes/service.ts'
import { RUST_TESTS, RUST_UNIT_TESTS } from '../../support/harness/rust-tests.ts'
import { skipWithoutAddon } from '../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

if (spawnSync('cargo', ['--version']).status === 0) testWithCargo()
else skipWithoutAddon('a build')

test('without cargo it says so in one line and goes on', async () => {
  const workspace = copyOfWorkspace()
  const said: string[] = []
  expect(await buildNative((line) => said.push(line), { cargo: 'no-such-cargo', workspace })).toBe('no-cargo')
  expect(said).toEqual([
    'The native addon is not built: cargo is not installed. ONNX Runtime and JavaScript do its work, with the same results but more slowly.',
  ])
})

test('a cargo that does not run is told with its own words', async () => {
  const cargo = join(temporaryDir(), 'cargo')
  writeFileSync(cargo, "#!/bin/sh\necho 'error: rustup could not choose a version' >&2; exit 1\n", {
    mode: 0o755,
  })
  const said: string[] = []
  expect(await buildNative((line) => said.push(line), { cargo, workspace: copyOfWorkspace() })).toBe(
    'no-cargo',
  )
  expect(said).toEqual([
    expect.stringMatching(
      /^The native addon is not built: cargo does not run \(error: rustup could not choose a version\)\./,
    ),
  ])
})

test('a build that fails where the addon is only welcome is one line, with the reason', async () => {
  const workspace = copyOfWorkspace()
  const cargo = program(
    "echo 'warning: something else' >&2; echo 'error: the linker is missing' >&2; exit 101",
  )
  const said: string[] = []
  expect(await offerNative((line) => said.push(line), { cargo, workspace })).toBe('failed')
  expect(said).toEqual([
    expect.stringContaining('Building the native addon with cargo 1.0'),
    "The native addon cannot be built (error: the linker is missing). ONNX Runtime and JavaScript do its work, with the same results but more slowly. Run 'node infra/local/build-native.mjs' for details.",
  ])
})

test('a build tells how many crates are compiled, and its errors are those of cargo without the progress', async () => {
  const cargo = program(
    `[ "$CARGO_TERM_PROGRESS_WHEN" = always ] || exit 7
    printf '   Compiling one v1.0.0\\n    Building [=>   ] 1/3: two, three\\r    Buil' >&2
    sleep 0.2
    printf 'ding [===> ] 2/3: three            \\rerror: the linker is missing\\n' >&2; exit 101`,
  )
  const seen: number[][] = []
  const building = buildNative(() => undefined, {
    cargo,
    workspace: copyOfWorkspace(),
    onProgress: (...counts) => void seen.push(counts),
  })
  await expect(building).rejects.toThrow(
    'cargo could not build the native addon:\nCompiling one v1.0.0\nerror: the linker is missing',
  )
  expect(seen).toEqual([
    [1, 3],
    [2, 3],
  ])
})

test('installing builds the addon, except for npx, which would hide that it builds', () => {
  const root = temporaryDir()
  for (const path of ['infra/local', 'gpu-node/src/platform/npm-command.mjs'])
    cpSync(join(import.meta.dirname, '../../..', path), join(root, path), { recursive: true })
  cpSync(copyOfWorkspace(), join(root, 'gpu-node/native'), { recursive: true })
  const cargo = program("echo 'error: it was called' >&2; exit 101")
  const install = (command: string) =>
    spawnSync(process.execPath, [join(root, 'infra/local/build-native.mjs'), '--optional'], {
      encoding: 'utf8',
      env: { ...process.env, npm_command: command, PATH: `${dirname(cargo)}:${process.env['PATH'] ?? ''}` },
    })
  expect(install('ci')).toMatchObject({ status: 0, stderr: expect.stringContaining('it was called') })
  expect(install('exec')).toMatchObject({ status: 0, stderr: '' })
})

test('a build that is ended takes what cargo started with it, and is no failure to tell', async () => {
  const workspace = copyOfWorkspace()
  const cargo = program(`sleep 1000 & echo $! > compiler.pid; wait`)
  const said: string[] = []
  const ending = new AbortController()
  const building = offerNative((line) => said.push(line), { cargo, workspace, signal: ending.signal })
  const compiler = await until('a compiler', () => pidIn(join(workspace, 'compiler.pid')), 30_000)
  expect(isAlive(compiler)).toBe(true)
  ending.abort()
  expect(await building).toBe('failed')
  await until('its end', () => !isAlive(compiler) || undefined, 30_000)
  expect(said).toEqual([expect.stringContaining('Building the native addon')])
})

/** Everything but what was built. */
function copyOfWorkspace(): string {
  const workspace = temporaryDir()
  cpSync(RUST_WORKSPACE, workspace, { recursive: true, filter: (source) => !/target|\.node/.test(source) })
  return workspace
}

/** A cargo that knows its version and otherwise does this. */
function program(script: string): string {
  const path = join(temporaryDir(), 'cargo')
  writeFileSync(path, `#!/bin/sh\n[ "$1" = --version ] && exec echo cargo 1.0\n${script}\n`, { mode: 0o755 })
  return path
}

function pidIn(path: string): number | undefined {
  try {
    return Number.parseInt(readFileSync(path, 'utf8'), 10) || undefined
  } catch {
    return undefined
  }
}

function testWithCargo(): void {
  test('what is built already is not built again', async () => {
    await buildNative(() => undefined)
    const said: string[] = []
    expect(await buildNative((line) => said.push(line))).toBe('fresh')
    expect(said).toEqual([])
  })

  test('a crate that does not compile fails with what cargo said', async () => {
    const workspace = temporaryDir()
    mkdirSync(join(workspace, 'src'))
    writeFileSync(
      join(workspace, 'Cargo.toml'),
      '[package]\nname = "copal-addon"\nversion = "0.0.0"\nedition = "2024"\n',
    )
    writeFileSync(
      join(workspace, 'Cargo.lock'),
      'version = 4\n\n[[package]]\nname = "copal-addon"\nversion = "0.0.0"\n',
    )
    writeFileSync(join(workspace, 'src', 'lib.rs'), 'pub fn nothing() -> u8 { "text" }\n')
    await expect(buildNative(() => undefined, { workspace })).rejects.toThrow(
      /could not build.*mismatched types/s,
    )
  })

  test.each([
    ['unit', RUST_UNIT_TESTS],
    ['integration', [...RUST_TESTS, '--test', '*']],
  ])('the Rust %s tests pass', { timeout: 900_000 }, (_, options) => {
    const args = [...options, '--package', 'copal-native', '--package', 'copal-addon']
    const { status, stdout, stderr } = spawnSync('cargo', args, { cwd: RUST_WORKSPACE, encoding: 'utf8' })
    expect(status, `${stdout}\n${stderr}`).toBe(0)
    expect(stdout).toMatch(/test result: ok\. [1-9]/)
  })
}
