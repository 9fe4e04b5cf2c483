import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'

const endWithParent = fileURLToPath(
  new URL('../../../../infra/local/processes/end-with-parent.mjs', import.meta.url),
)

/** A command that starts a child of its own, prints both pids and ignores what asks it to end. */
const STUBBORN = `
const { spawn } = require('node:child_process')
process.on('SIGTERM', () => {})
const child = spawn(process.execPath, ['-e', 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)'], { stdio: 'ignore' })
console.log(JSON.stringify([process.pid, child.pid]))
setInterval(() => {}, 1000)`

async function pidsOf(child: ChildProcess): Promise<number[]> {
  if (!child.stdout) throw new Error('no output')
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return JSON.parse(line.toString()) as number[]
}

async function untilGone(pids: number[]): Promise<void> {
  while (pids.some(isAlive)) await sleep(20)
}

// At once: each waits for the seconds that a command has to end.
test.concurrent('a command and its children end when the parent closes the pipe', async () => {
  const child = spawn(process.execPath, [endWithParent, process.execPath, '-e', STUBBORN], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const pids = await pidsOf(child)
  child.stdin.end()
  await expect(untilGone(pids)).resolves.toBeUndefined()
})

test.concurrent('a command and its children end when the parent is killed', async () => {
  const holder = `
    const { spawn } = require('node:child_process')
    spawn(process.execPath, ${JSON.stringify([endWithParent, process.execPath, '-e', STUBBORN])}, { detached: true, stdio: ['pipe', 'inherit', 'inherit'] })
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['-e', holder], { stdio: ['ignore', 'pipe', 'inherit'] })
  const pids = await pidsOf(child)
  child.kill('SIGKILL')
  await expect(untilGone(pids)).resolves.toBeUndefined()
})

test.concurrent('the children of a command that ends by itself end with it, and its exit code is kept', async () => {
  const leaving = `
    const { spawn } = require('node:child_process')
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
    console.log(JSON.stringify([child.pid]))
    setTimeout(() => process.exit(7), 100)`
  const child = spawn(process.execPath, [endWithParent, process.execPath, '-e', leaving], {
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const pids = await pidsOf(child)
  await untilGone(pids)
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  expect(child.exitCode ?? child.signalCode).toBe(7)
})
