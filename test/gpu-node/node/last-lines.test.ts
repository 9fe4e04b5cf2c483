import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { MAIN, startNodeProcess, type NodeProcess } from '../../support/processes/node-process.ts'
import { prepareNode, prepareWholeNodes } from '../../support/processes/whole-node.ts'
import { startOtlpReceiver } from '../../support/telemetry/otlp-receiver.ts'

prepareWholeNodes()

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
  const defect = `process.on('SIGUSR2', () => { throw new Error('a defect') })`
  const node = await start({ ...env, NODE_OPTIONS: `--import "data:text/javascript,${encodeURI(defect)}"` })
  node.child.kill('SIGUSR2')
  expect(await once(node.child, 'exit')).toEqual([1, null])
  const line = receiver.logs().find(({ body }) => body.stringValue.includes('unexpected error'))
  expect(JSON.stringify(line?.attributes)).toContain('a defect')
})
