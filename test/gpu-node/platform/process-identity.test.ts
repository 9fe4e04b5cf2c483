import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { expect, onTestFinished, test, vi } from 'vitest'
import { isAlive, startTicks } from '../../../gpu-node/src/platform/process-identity.ts'
import { WAIT } from '../../support/harness/wait.ts'

test('a process is alive until it has ended', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  onTestFinished(() => void child.kill('SIGKILL'))
  const pid = child.pid ?? 0
  expect(isAlive(pid)).toBe(true)
  child.kill('SIGKILL')
  await once(child, 'exit')
  expect(isAlive(pid)).toBe(false)
  expect(startTicks(pid)).toBeUndefined()
})

test.runIf(process.platform === 'linux')(
  'a process that ended but was not waited for is not alive',
  async () => {
    // The shell becomes a program that never waits for the shell's child. The child ends when descriptor 3
    // is closed, which happens after that, because the shell itself could wait for it.
    const script = 'cat <&3 >/dev/null & echo $!; exec sleep 60 3<&-'
    const parent = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore', 'pipe'] })
    onTestFinished(() => void parent.kill('SIGKILL'))
    const [line] = (await once(parent.stdout as Readable, 'data')) as [Buffer]
    const pid = Number(line.toString())
    await vi.waitUntil(() => readFileSync(`/proc/${parent.pid}/comm`, 'utf8') === 'sleep\n', {
      timeout: WAIT.timeout,
    })
    expect(isAlive(pid)).toBe(true)
    ;(parent.stdio[3] as Writable).end()
    await vi.waitUntil(() => !isAlive(pid), WAIT)
    expect(startTicks(pid)).toMatch(/^\d+$/)
  },
)
