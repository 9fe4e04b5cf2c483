import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, expect, test } from 'vitest'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import { supervise, type Part } from '../../../../infra/local/processes/supervise.ts'

const dir = mkdtempSync(join(tmpdir(), 'copal-supervise-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** A part whose processes append their pid to a file, then do as `code` says. */
function part(name: string, code: string): Part & { pids(): number[] } {
  const pidPath = join(dir, `${name}.pids`)
  const logPath = join(dir, `${name}.log`)
  writeFileSync(pidPath, '')
  const log = openSync(logPath, 'a')
  const begin = `require('node:fs').appendFileSync(${JSON.stringify(pidPath)}, process.pid + '\\n');`
  return {
    name,
    logPath,
    spawn: () =>
      spawn(process.execPath, ['-e', begin + code], { detached: true, stdio: ['ignore', log, log] }),
    askToEnd: (child) => child.kill('SIGTERM'),
    graceMs: 300,
    pids: () => readFileSync(pidPath, 'utf8').split('\n').filter(Boolean).map(Number),
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20)
}

test('a part that crashes after it was ready is started again, with one line', async () => {
  const lines: string[] = []
  const spec = part('crasher', 'setInterval(() => {}, 1000)')
  const supervised = supervise(spec, (line) => lines.push(line))
  await until(() => spec.pids().length === 1)
  supervised.markReady()
  process.kill(spec.pids()[0] ?? 0, 'SIGKILL')
  await until(() => spec.pids().length === 2)
  await supervised.stop()
  expect(lines).toEqual([`The crasher ended (SIGKILL); starting it again in 0.5 s. Log: ${spec.logPath}`])
  expect(spec.pids().filter(isAlive)).toEqual([])
})

test('a restart starts a running or a crashed part again at once, without a line', async () => {
  const lines: string[] = []
  const crashed = Promise.withResolvers<void>()
  const spec = part('restarted', 'setInterval(() => {}, 1000)')
  const supervised = supervise(spec, (line) => {
    lines.push(line)
    crashed.resolve()
  })
  await until(() => spec.pids().length === 1)
  supervised.markReady()
  supervised.restart()
  await until(() => spec.pids().length === 2)
  expect(spec.pids().map(isAlive)).toEqual([false, true])
  expect(lines).toEqual([])

  process.kill(spec.pids()[1] ?? 0, 'SIGKILL')
  // At once, because half a second later it is started without being asked.
  await crashed.promise
  supervised.restart()
  await until(() => spec.pids().length === 3)
  await sleep(700)
  expect(spec.pids()).toHaveLength(3)
  await supervised.stop()
  expect(spec.pids().filter(isAlive)).toEqual([])
})

test('errors of a running process do not end its supervisor', async () => {
  const spec = part('erring', 'setInterval(() => {}, 1000)')
  let child: ChildProcess | undefined
  const supervised = supervise({ ...spec, spawn: () => (child = spec.spawn()) }, () => undefined)
  await until(() => spec.pids().length === 1)
  supervised.markReady()
  for (let time = 0; time < 3; time++) child?.emit('error', new Error('kill EPERM'))
  expect(spec.pids().filter(isAlive)).toHaveLength(1)
  await supervised.stop()
})

test('a crashed part that cannot be started at once is tried again', async () => {
  const lines: string[] = []
  const spec = part('phoenix', 'setInterval(() => {}, 1000)')
  let starts = 0
  const missing = () => spawn(join(dir, 'no-such-program'), { stdio: 'ignore' })
  const supervised = supervise(
    { ...spec, spawn: () => (++starts === 2 ? missing() : spec.spawn()) },
    (line) => lines.push(line),
  )
  await until(() => spec.pids().length === 1)
  supervised.markReady()
  process.kill(spec.pids()[0] ?? 0, 'SIGKILL')
  await until(() => spec.pids().length === 2)
  await supervised.stop()
  expect(lines[1]).toMatch(/phoenix cannot be started: spawn .*ENOENT; starting it again in 1 s/)
  expect(lines).toHaveLength(2)
})

test('a part that ends before it is ready fails the start with the end of its log', async () => {
  const spec = part('loser', `console.error('the disk is on fire'); process.exit(3)`)
  const supervised = supervise(spec, () => undefined)
  await expect(supervised.failed).rejects.toThrow(
    /loser ended while it started \(exit code 3\)[^]*the disk is on fire/,
  )
  await supervised.stop()
  expect(spec.pids()).toHaveLength(1)
})

test('a part that ignores SIGTERM is killed, and so is what it started', async () => {
  const spec = part(
    'stubborn',
    `process.on('SIGTERM', () => {});
     require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(
       `require('node:fs').appendFileSync(${JSON.stringify(join(dir, 'stubborn.pids'))}, process.pid + '\\n'); setInterval(() => {}, 1000)`,
     )}], { stdio: 'ignore' });
     setInterval(() => {}, 1000)`,
  )
  const supervised = supervise(spec, () => undefined)
  await until(() => spec.pids().length === 2)
  supervised.markReady()
  await supervised.stop()
  await until(() => spec.pids().filter(isAlive).length === 0)
  expect(spec.pids()).toHaveLength(2)
})

test.runIf(process.platform === 'linux')('processes of the group of a part are found by name', async () => {
  const spec = part('grouped', `require('node:child_process').spawn('sleep', ['1000'])`)
  const supervised = supervise(spec, () => undefined)
  await until(() => supervised.pids('sleep')?.length === 1)
  expect(supervised.pids('no such name')).toEqual([])
  await supervised.stop()
  await until(() => supervised.pids('sleep')?.length === 0)
})
