import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { MAIN, startNodeProcess, type NodeProcess } from '../../support/processes/node-process.ts'
import {
  heartbeatWhere,
  prepareNode,
  prepareWholeNodes,
  tinyFiles,
  urlOf,
} from '../../support/processes/whole-node.ts'
import { startOtlpReceiver } from '../../support/telemetry/otlp-receiver.ts'

/** The tiny model's end of text. */
const END_TOKEN = 2

// A long context, so that an output can run until its node ends.
prepareWholeNodes({ contextLength: 16_384 })

/** Makes a node throw an error that nothing catches when it gets SIGUSR2, after an action. */
function withDefect(action = '') {
  const script = `process.on('SIGUSR2', () => { ${action}; throw new Error('a defect') })`
  return { NODE_OPTIONS: `--import "data:text/javascript,${encodeURI(script)}"` }
}

async function startReceiver() {
  const receiver = await startOtlpReceiver()
  onTestFinished(() => receiver.close())
  return { receiver, env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_TRACES_EXPORTER: 'none' } }
}

/** Starts a node without a channel to its parent. */
function startByHand(env: Record<string, string>): Pick<NodeProcess, 'child'> {
  return { child: spawn(process.execPath, [MAIN], { env, stdio: 'ignore' }) }
}

test.each([
  ['by a supervisor', startNodeProcess],
  ['by a person', startByHand],
])('a collector learns why a node that is started %s cannot start', async (_, startNode) => {
  const { receiver, env } = await startReceiver()
  const { gateway, home } = await prepareNode()
  const node = startNode({
    COPAL_MODEL: '/no/such/model',
    COPAL_HOME: home,
    COPAL_CACHE: home,
    COPAL_NODE_PORT: '0',
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
    ...env,
  })
  expect(await once(node.child, 'exit')).toEqual([1, null])
  expect(receiver.logs()).toContainEqual(
    expect.objectContaining({ body: { stringValue: 'the node cannot start' }, severityText: 'ERROR' }),
  )
})

test('a collector learns of the unexpected error that ends a node', async () => {
  const { receiver, env } = await startReceiver()
  const { start } = await prepareNode()
  const node = await start({ ...env, ...withDefect() })
  node.child.kill('SIGUSR2')
  expect(await once(node.child, 'exit')).toEqual([1, null])
  const line = receiver.logs().find(({ body }) => body.stringValue.includes('unexpected error'))
  expect(JSON.stringify(line?.attributes)).toContain('a defect')
})

/** Starts a collector that never responds, and returns the settings of a node that sends its log there. */
async function startSlowCollector(): Promise<Record<string, string>> {
  const collector = createServer(() => {})
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    collector.closeAllConnections()
    collector.close()
  })
  const { port } = collector.address() as AddressInfo
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_TRACES_EXPORTER: 'none',
    OTEL_METRICS_EXPORTER: 'none',
  }
}

test('an unexpected error ends a node also if it keeps the last lines from being sent', async () => {
  const { env } = await startReceiver()
  const { start } = await prepareNode()
  const broken = withDefect(`globalThis.clearTimeout = () => { throw new Error('no timers') }`)
  const node = await start({ ...env, ...broken })
  node.child.kill('SIGUSR2')
  expect(await once(node.child, 'exit')).toEqual([1, null])
})

test('a node that ends after an unexpected error ends its streams, while a collector is slow to take its last lines', async () => {
  const { gateway, start } = await prepareNode()
  const node = await start({ ...withDefect(), ...(await startSlowCollector()) })
  await heartbeatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  const response = await gateway.callNode(await urlOf(node), 'POST', '/rpc/completions', {
    requestId: 'request-1',
    domain: 'legal',
    sample: false,
    // It does not end by itself before its node does.
    request: {
      model: 'tiny',
      prompt: 'the other party',
      max_tokens: 12_000,
      stream: true,
      logit_bias: { [END_TOKEN]: -100 },
    },
  })
  node.child.kill('SIGUSR2')
  const stream = await response.text()
  expect(stream).toContain('"error":')
  expect(stream).not.toContain('[DONE]')
  expect(await node.end('SIGCONT')).toBe(1)
})

test('a node with an unexpected error while it starts does not start, while a collector is slow to take its last lines', async () => {
  const { gateway, home } = await prepareNode()
  // Once the node handles such errors.
  const defect = `const timer = setInterval(() => {
    if (process.listenerCount('uncaughtException') === 0) return
    clearInterval(timer)
    throw new Error('a defect')
  }, 1)`
  const node = startNodeProcess({
    COPAL_MODEL: tinyFiles().tiny.dir,
    COPAL_HOME: home,
    COPAL_CACHE: home,
    COPAL_NODE_PORT: '0',
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
    COPAL_BACKEND: 'onnx',
    NODE_OPTIONS: `--import "data:text/javascript,${encodeURI(defect)}"`,
    ...(await startSlowCollector()),
  })
  expect(await once(node.child, 'exit')).toEqual([1, null])
  expect(node.messages.filter(({ type }) => type !== 'progress')).toEqual([
    { type: 'failed', message: 'a defect' },
  ])
})
