import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startNode, type NodeProcess } from '../../../gpu-node/src/compose.ts'
import { listen } from '../../../gpu-node/src/platform/listener.ts'
import { createCallWatch } from '../../../gpu-node/src/serving/backends/gpu/call-watch.ts'
import { readNodeSettings } from '../../../gpu-node/src/settings.ts'
import { startGatewayDouble } from '../../support/doubles/gateway-double.ts'
import { memoryLog } from '../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { WAIT } from '../../support/harness/wait.ts'
import { descendants } from '../../support/processes/service.ts'
import { prepareWholeNodes, tinyFiles } from '../../support/processes/whole-node.ts'

/** The tiny model's end of text. */
const END_TOKEN = 2

prepareWholeNodes()

/** Settings of a node of the tiny model on a port that is free. */
async function prepare() {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const home = temporaryDir('copal-home')
  const port = await freePort()
  const settings = readNodeSettings({
    COPAL_MODEL: tinyFiles().tiny.dir,
    COPAL_HOME: home,
    COPAL_CACHE: tinyFiles().cacheDir,
    COPAL_NODE_PORT: String(port),
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
    COPAL_THREADS: '1',
    COPAL_BACKEND: 'onnx',
  })
  return { gateway, home, port, settings }
}

async function freePort(): Promise<number> {
  const listener = await listen('127.0.0.1', 0)
  await listener.close(0)
  return Number(new URL(listener.url).port)
}

function environment(
  signal = new AbortController().signal,
): NodeProcess & { log: ReturnType<typeof memoryLog> } {
  return {
    log: memoryLog(),
    onProgress: () => {},
    signal,
    gpuCalls: createCallWatch(() => {}),
    onGpuGone: () => {},
  }
}

test('a start that fails half-way releases what it has started, so that the next one succeeds', async () => {
  const { gateway, home, port, settings } = await prepare()
  const jobs = join(home, 'jobs')
  writeFileSync(jobs, 'a file where the folder of jobs belongs')
  await expect(startNode(settings, environment())).rejects.toThrow(/jobs/)
  expect(existsSync(join(home, 'node.json'))).toBe(false)
  const taken = await listen('127.0.0.1', port)
  await taken.close(0)

  rmSync(jobs)
  const node = await startNode(settings, environment())
  await vi.waitFor(() => expect(gateway.heartbeats.length).toBeGreaterThan(0), WAIT)
  await node.stop(0)
  expect(gateway.heartbeats.at(-1)).toMatchObject({ draining: true, leaving: true })
  expect(existsSync(join(home, 'node.json'))).toBe(false)
})

test('a start that is cancelled while weights load ends at once, with their process and the reason', async () => {
  const { home, settings } = await prepare()
  const cancelled = new AbortController()
  const before = descendants(process.pid)
  const isNew = () => descendants(process.pid).filter((pid) => !before.includes(pid))
  const starting = startNode(settings, environment(cancelled.signal))
  starting.catch(() => undefined)
  await vi.waitFor(() => expect(isNew()).not.toEqual([]), WAIT)
  cancelled.abort(new Error('stopped'))
  await expect(starting).rejects.toThrow(/^stopped$/)
  expect(existsSync(join(home, 'node.json'))).toBe(false)
  await vi.waitFor(() => expect(isNew()).toEqual([]), WAIT)
})

test('scratch that a killed process has left is removed', async () => {
  const { home, settings } = await prepare()
  const left = join(home, 'work', 'load-4711-abc')
  mkdirSync(left, { recursive: true })
  writeFileSync(join(left, 'weights.bin'), 'half of the pruned weights')
  const node = await startNode(settings, environment())
  await node.stop(0)
  expect(existsSync(left)).toBe(false)
})

test('a halted node rejects new requests and ends the running ones at once', async () => {
  const { gateway, settings } = await prepare()
  const node = await startNode(settings, environment())
  onTestFinished(() => node.stop(0))
  const call = (requestId: string) =>
    gateway.callNode(node.url, 'POST', '/rpc/completions', {
      requestId,
      domain: 'legal',
      sample: false,
      // It does not end by itself so soon.
      request: {
        model: 'tiny',
        prompt: 'the other party',
        max_tokens: 200,
        stream: true,
        logit_bias: { [END_TOKEN]: -100 },
      },
    })
  const response = await call('request-1')
  node.halt()
  const stream = await response.text()
  expect(stream).toContain('"error":')
  expect(stream).not.toContain('[DONE]')
  expect((await call('request-2')).status).toBe(503)
  await vi.waitFor(() => expect(gateway.heartbeats.at(-1)?.draining).toBe(true), WAIT)
})
