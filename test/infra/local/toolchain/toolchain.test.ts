import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import { findNode, isInstalled, longestEndMs, ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { npmCommand } from '../../../../gpu-node/src/platform/npm-command.mjs'
import { WAIT } from '../../../support/harness/wait.ts'

const dir = mkdtempSync(join(tmpdir(), 'copal-toolchain-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const toolchain = fileURLToPath(new URL('../../../../infra/local/toolchain/toolchain.mjs', import.meta.url))

/** A checkout whose one package lies beside it, so that npm needs no registry. */
function checkout(): string {
  const root = mkdtempSync(join(dir, 'checkout-'))
  const put = (path: string, value: unknown) => {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), JSON.stringify(value))
  }
  put('package.json', { name: 'checkout', version: '1.0.0', dependencies: { local: 'file:local' } })
  put('local/package.json', { name: 'local', version: '1.2.3' })
  put('package-lock.json', {
    name: 'checkout',
    version: '1.0.0',
    lockfileVersion: 3,
    requires: true,
    packages: {
      '': { name: 'checkout', version: '1.0.0', dependencies: { local: 'file:local' } },
      local: { version: '1.2.3' },
      'node_modules/local': { resolved: 'local', link: true },
    },
  })
  return root
}

/** @param before code that runs first */
function installInChild(root: string, before = '') {
  const child = spawnInstaller(root, before)
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  return once(child, 'close').then(([exitCode]: unknown[]) => ({ exitCode, output }))
}

function spawnInstaller(root: string, before = '', env: Record<string, string> = {}) {
  const code =
    `${before}\nconst { ensureInstalled, exitWith } = await import(${JSON.stringify(toolchain)})\n` +
    `await ensureInstalled(${JSON.stringify(root)}, (line) => console.log(line)).catch(exitWith)`
  return spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
}

describe('npmCommand', () => {
  test('no program that is started is a batch file, which Node refuses to start without a shell', () => {
    const env = { ComSpec: 'C:\\Windows\\System32\\cmd.exe' }
    expect(npmCommand(env, 'win32')).toEqual([env.ComSpec, '/d', '/s', '/c', 'npm'])
    expect(npmCommand({}, 'win32')[0]).toBe('cmd.exe')
    expect(npmCommand({}, 'linux')).toEqual(['npm'])
  })

  test('the npm that runs this process is used, and no other program that names itself so', () => {
    const npm = '/usr/lib/node_modules/npm/bin/npm-cli.js'
    for (const platform of ['win32', 'linux'])
      expect(npmCommand({ npm_execpath: npm }, platform)).toEqual([process.execPath, npm])
    expect(npmCommand({ npm_execpath: '/opt/yarn/bin/yarn.js' }, 'linux')).toEqual(['npm'])
  })
})

describe('isInstalled', () => {
  test('is false for a bare checkout', () => {
    expect(isInstalled(checkout())).toBe(false)
  })

  test('is false when a package has another version than the locked one', () => {
    const root = checkout()
    const lock = {
      packages: {
        '': {},
        'node_modules/a': { version: '1.0.0' },
        'node_modules/other-platform': { version: '1.0.0', optional: true },
      },
    }
    writeFileSync(join(root, 'package-lock.json'), JSON.stringify(lock))
    mkdirSync(join(root, 'node_modules'))
    const record = (version: string) =>
      writeFileSync(
        join(root, 'node_modules', '.package-lock.json'),
        JSON.stringify({ packages: { 'node_modules/a': { version } } }),
      )
    record('0.9.0')
    expect(isInstalled(root)).toBe(false)
    record('1.0.0')
    expect(isInstalled(root)).toBe(true)
  })

  test('is true for this checkout', () => {
    expect(isInstalled(ROOT)).toBe(true)
  })
})

describe('ensureInstalled', () => {
  test('with three calls at once, one installs and the others wait', async () => {
    const root = checkout()
    const ends = await Promise.all([installInChild(root), installInChild(root), installInChild(root)])
    expect(ends.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0])
    expect(ends.filter(({ output }) => output.includes('npm ci'))).toHaveLength(1)
    expect(isInstalled(root)).toBe(true)
    expect(existsSync(join(root, 'node_modules', 'local'))).toBe(true)
    expect(existsSync(join(root, '.copal', 'install.lock'))).toBe(false)
  })

  test('Ctrl-C ends an npm that goes on after it, and the lock is free', async () => {
    const root = checkout()
    const npm = join(root, 'npm-cli.js')
    const pidFile = join(root, 'pid')
    writeFileSync(
      npm,
      `for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined)
      require('node:fs').writeFileSync(${JSON.stringify(pidFile)}, String(process.pid))
      setInterval(() => undefined, 1000)`,
    )
    const child = spawnInstaller(root, '', { npm_execpath: npm })
    await vi.waitFor(() => expect(readFileSync(pidFile, 'utf8')).not.toBe(''), WAIT)
    child.kill('SIGINT')
    expect(await once(child, 'exit')).toEqual([null, 'SIGINT'])
    await vi.waitFor(() => expect(isAlive(Number(readFileSync(pidFile, 'utf8')))).toBe(false), WAIT)
    expect(readdirSync(join(root, '.copal'))).toEqual([])
  })

  test('takes over from an installer that was killed', async () => {
    const root = checkout()
    const dead = spawn(process.execPath, ['-e', ''])
    await once(dead, 'exit')
    mkdirSync(join(root, '.copal'))
    writeFileSync(join(root, '.copal', 'install.lock'), String(dead.pid))
    expect(await installInChild(root)).toMatchObject({ exitCode: 0 })
    expect(isInstalled(root)).toBe(true)
  })

  test('of two that take over from an installer that was killed, one installs', async () => {
    const root = checkout()
    const dead = spawn(process.execPath, ['-e', ''])
    await once(dead, 'exit')
    mkdirSync(join(root, '.copal'))
    const lock = join(root, '.copal', 'install.lock')
    writeFileSync(lock, String(dead.pid))
    // Is interrupted between its judgement of the lock and the removal, for as long as the other may need to take it.
    const interrupt = `
      import fs from 'node:fs'
      import { syncBuiltinESMExports } from 'node:module'
      const { rmSync } = fs
      fs.rmSync = (path, options) => {
        const until = Date.now() + 2000
        fs.writeFileSync(${JSON.stringify(join(root, 'interrupted'))}, '')
        while (path === ${JSON.stringify(lock)} && Date.now() < until && isUnchanged())
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
        rmSync(path, options)
      }
      const isUnchanged = () => {
        try { return fs.readFileSync(${JSON.stringify(lock)}, 'utf8') === '${dead.pid}' } catch { return true }
      }
      syncBuiltinESMExports()`
    const first = installInChild(root, interrupt)
    await vi.waitFor(() => expect(existsSync(join(root, 'interrupted'))).toBe(true), WAIT)
    const ends = await Promise.all([first, installInChild(root)])
    expect(ends.map(({ exitCode }) => exitCode)).toEqual([0, 0])
    expect(ends.filter(({ output }) => output.includes('npm ci'))).toHaveLength(1)
    expect(readdirSync(join(root, '.copal'))).toEqual([])
  })

  test.each([
    ['was never written', ''],
    ['names the pid of another process', `${process.pid} 1`],
  ])('takes over a lock that %s', async (_, content) => {
    const root = checkout()
    mkdirSync(join(root, '.copal'))
    writeFileSync(join(root, '.copal', 'install.lock'), content)
    expect(await installInChild(root)).toMatchObject({ exitCode: 0 })
    expect(isInstalled(root)).toBe(true)
  })
})

test('a node is not killed during the grace period of its requests', () => {
  expect(longestEndMs('node', {})).toBeGreaterThan(30_000 + 4_000)
  expect(longestEndMs('node', { COPAL_GRACE_MS: '600000' })).toBeGreaterThan(600_000 + 4_000)
  expect(longestEndMs('start', { COPAL_GRACE_MS: '600000' })).toBe(25_000)
})

test.runIf(process.platform === 'linux')('our code runs on the Node that the lock file names', () => {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version: string }>
  }
  const { path } = findNode(ROOT)
  const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout.trim()
  expect(version).toBe(`v${lock.packages[`node_modules/node-linux-${process.arch}`]?.version}`)
})
