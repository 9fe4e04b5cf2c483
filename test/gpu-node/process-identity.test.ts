import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { isAlive, startTicks } from '../../gpu-node/src/process-identity.ts'

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

test.runIf(process.platform === 'linux')('one that nobody has waited for is not alive', async () => {
  // The shell becomes a program that never asks for the end of the shell's child.
  const parent = spawn('sh', ['-c', 'true & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
  onTestFinished(() => void parent.kill('SIGKILL'))
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10))
  expect(startTicks(pid)).toMatch(/^\d+$/)
})
