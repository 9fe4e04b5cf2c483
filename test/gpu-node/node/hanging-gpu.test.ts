import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startGatewayDouble } from '../../support/doubles/gateway-double.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { WAIT } from '../../support/harness/wait.ts'
import { startNodeProcess } from '../../support/processes/node-process.ts'
import { prepareWholeNodes, tinyFiles } from '../../support/processes/whole-node.ts'

const PRELOAD = new URL('../../support/faults/use-gpu-that-hangs.ts', import.meta.url).href

prepareWholeNodes()

/** Starts a node in which one call of the GPU addon hangs. */
async function startHanging(hangingCall: string, env: Record<string, string> = {}) {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const pipe = join(temporaryDir('copal-pipe'), 'pipe')
  execFileSync('mkfifo', [pipe])
  const node = startNodeProcess({
    COPAL_MODEL: tinyFiles().tiny.dir,
    COPAL_HOME: temporaryDir('copal-home'),
    COPAL_CACHE: tinyFiles().cacheDir,
    COPAL_NODE_PORT: '0',
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
    COPAL_THREADS: '1',
    COPAL_BACKEND: 'gpu',
    NODE_OPTIONS: `--import ${PRELOAD}`,
    HANGING_CALL: hangingCall,
    HANGING_PIPE: pipe,
    ...env,
  })
  const ended = once(node.child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  onTestFinished(() => void node.child.kill('SIGKILL'))
  return { node, ended }
}

test.each([
  ['devices', 'finding devices'],
  ['selectDevice', 'choosing a device'],
  ['openEngine', 'opening'],
])('a node whose GPU hangs in %s logs that and ends', async (call, what) => {
  const { node, ended } = await startHanging(call, { HANG_IS_NOTICED: '1' })
  expect(await ended).toEqual([null, 'SIGKILL'])
  expect(node.output()).toContain(
    `the GPU cannot be used again by this process: The GPU or its driver hangs in ${what}: it did not return within 600 s.`,
  )
})

test.each(['devices', 'openEngine'])(
  'a node that is stopped while its GPU hangs in %s ends too',
  async (call) => {
    const { node, ended } = await startHanging(call)
    await vi.waitFor(() => expect(node.output()).toContain(`${call} hangs`), WAIT)
    node.child.kill('SIGTERM')
    expect(await ended).toEqual([null, 'SIGKILL'])
    expect(node.output()).toContain('"message":"stopping"')
  },
)
