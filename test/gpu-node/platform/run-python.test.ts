import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { isAlive } from '../../../gpu-node/src/platform/process-identity.ts'
import { runPython } from '../../../gpu-node/src/platform/run-python.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

/** Creates a Python module with this source, which is found through the environment. */
async function moduleOf(source: string) {
  const dir = temporaryDir()
  await writeFile(join(dir, 'probe.py'), source)
  return { module: 'probe', env: { PYTHONPATH: dir, PYTHONDONTWRITEBYTECODE: '1' } }
}

test('a module receives its arguments, and its lines and exit code are returned', async () => {
  const probe = await moduleOf(
    'import sys\nprint(__name__, sys.argv[1:])\nprint("bad", file=sys.stderr)\nsys.exit(3)',
  )
  const seen: string[] = []
  const { exitCode, lines } = await runPython({
    ...probe,
    args: ['-a', 'b'],
    onLine: (line) => void seen.push(line),
  })
  expect(exitCode).toBe(3)
  expect([...lines].sort()).toEqual(["__main__ ['-a', 'b']", 'bad'])
  expect(seen.sort()).toEqual([...lines].sort())
})

test('an abort ends the module and rejects with its reason', async () => {
  const probe = await moduleOf('import time\nprint("up")\ntime.sleep(600)')
  const controller = new AbortController()
  const running = runPython({
    ...probe,
    args: [],
    signal: controller.signal,
    onLine: () => controller.abort(new Error('enough')),
  })
  await expect(running).rejects.toThrow('enough')
})

test('the module ends when the process that runs it is killed', async () => {
  const probe = await moduleOf('import os, time\nprint(os.getpid())\ntime.sleep(600)')
  const url = new URL('../../../gpu-node/src/platform/run-python.ts', import.meta.url).href
  const script = `
    import { runPython } from ${JSON.stringify(url)}
    await runPython({ ...${JSON.stringify(probe)}, args: [], onLine: (line) => console.log(line) })`
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const pid = await new Promise<number>((resolve) =>
    parent.stdout.once('data', (data) => resolve(Number(data))),
  )
  expect(isAlive(pid)).toBe(true)
  parent.kill('SIGKILL')
  while (isAlive(pid)) await sleep(20)
})
