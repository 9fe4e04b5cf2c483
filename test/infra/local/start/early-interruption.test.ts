/** `npm start` that a person interrupts before it runs anything. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { freePort } from '../../../../infra/local/processes/ports.ts'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { WAIT } from '../../../support/harness/wait.ts'

/** A process id that no process has. */
const NOBODY = 2 ** 30

test('Ctrl-C while the start waits for the port of a killed service ends it at once, without an error', async () => {
  const dir = temporaryDir()
  const home = join(dir, 'home')
  const lock = join(home, 'running.json')
  const holderOf = () => (JSON.parse(readFileSync(lock, 'utf8')) as { pid: number }).pid
  mkdirSync(home)
  writeFileSync(lock, JSON.stringify({ host: hostname(), pid: NOBODY }))
  const left = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void left.close())
  await once(left, 'listening')
  const child = spawn(process.execPath, ['infra/local/start/start.ts'], {
    cwd: ROOT,
    env: {
      ...process.env,
      COPAL_HOME: home,
      COPAL_CACHE: join(dir, 'cache'),
      COPAL_PORT: String((left.address() as AddressInfo).port),
      COPAL_NODE_PORT: String(await freePort()),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (output += data.toString()))
  await vi.waitFor(() => expect(holderOf()).toBe(child.pid), WAIT)
  child.kill('SIGINT')
  expect(await once(child, 'close')).toEqual([0, null])
  expect(output).toBe('')
})
