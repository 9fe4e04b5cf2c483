/**
 * The effects of node faults on users: real node processes with the tiny model are killed, stopped and disconnected from the
 * real gateway. The tests of a file share one fleet of two nodes. Faults of the gateway: `gateway-faults.test.ts`.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import { LEASE_MS, prepareFaultFleet, testNoRequestIsLeft } from '../support/faults/fault-fleet.ts'
import { startGarbageNode } from '../support/doubles/garbage-node.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { startNodeProcess, type NodeProcess } from '../support/processes/node-process.ts'
import { until } from '../support/processes/service.ts'
import { responseEnd } from '../support/processes/stream-end.ts'
import { LONG_WAIT } from '../support/harness/wait.ts'
import { testLosses } from './losses.ts'

const faults = prepareFaultFleet()
const { ask, nodes, open, receipts } = faults

testLosses(faults)

test('a stream on a slow node runs to its end', async () => {
  const stream = await open({ max_tokens: 2_000 })
  const speedUp = slowDown(stream.node.process, 180)
  expect(await stream.end()).toBe('done')
  speedUp()
})

test('a node that responds with garbage loses no request, and soon gets no more of them', async () => {
  const garbage = await startGarbageNode(faults.fleet)
  const beganMs = Date.now()
  for (let turn = 0; turn < 12; turn += 1) {
    await garbage.beat()
    const answer = await ask({ max_tokens: 2, stream: turn % 2 === 0 })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-copal-node')).not.toBe('garbage')
    await answer.text()
  }
  expect(garbage.calls()).toBeGreaterThan(0)
  // Three failures, and then one call after a second, after two more, after four more and so on.
  const seconds = (Date.now() - beganMs) / 1_000
  expect(garbage.calls()).toBeLessThanOrEqual(3 + Math.log2(1 + seconds))
  await garbage.leave()
})

test('a node whose heartbeats are lost finishes its streams and gets no new requests', async () => {
  // At a seventh of its speed it lasts longer than the gateway takes to miss the node.
  const stream = await open({ max_tokens: 3_000 })
  const speedUp = slowDown(stream.node.process, 140)
  stream.node.disconnect()
  // Longer than heartbeats may be late until a lease expires.
  const isOverdue = sleep(LEASE_MS + 500)
  await until('the gateway to miss it', async () =>
    (await faults.fleet.alive()).includes(stream.node.id) ? undefined : true,
  )
  const answer = await ask({ max_tokens: 2 })
  expect(answer.headers.get('x-copal-node')).not.toBe(stream.node.id)
  expect(await responseEnd(answer)).toBe('done')
  await isOverdue
  speedUp()
  expect(await stream.end()).toBe('done')
})

test('nodes with clocks minutes off take no requests and log why', async () => {
  const [ahead, behind] = await Promise.all([startSkewed('far-ahead', 600), startSkewed('far-behind', -600)])
  await vi.waitFor(() => expect(ahead.output()).toMatch(/signed \d{3} s in the future/), LONG_WAIT)
  await vi.waitFor(() => expect(behind.output()).toMatch(/signed \d{3} s ago/), LONG_WAIT)
  expect(await faults.fleet.alive()).not.toContain(expect.stringMatching(/^far-/))
})

test('nodes with clocks seconds off serve like the others', async () => {
  const before = await receipts('length')
  const skewed = await Promise.all([startSkewed('a-little-ahead', 30), startSkewed('a-little-behind', -30)])
  await until('the nodes', async () => ((await faults.fleet.alive()).length === 4 ? true : undefined))
  const missing = new Set(['a-little-ahead', 'a-little-behind'])
  let asked = 0
  for (; missing.size > 0; asked += 1) {
    const answer = await ask({ max_tokens: 2 })
    missing.delete(answer.headers.get('x-copal-node') ?? '')
    expect(await responseEnd(answer)).toBe('done')
  }
  expect(await receipts('length')).toBe(before + asked)
  expect(await Promise.all(skewed.map((node) => node.end('SIGTERM')))).toEqual([0, 0])
})

test('the secret of one node neither reports for another node nor calls it', async () => {
  const stream = await open({ max_tokens: 2_000 })
  const { node, requestId } = stream
  const other = [...nodes.keys()].find((id) => id !== node.id) ?? ''
  const secret = await faults.fleet.nodeSecret(other)
  const call = async (url: string, path: string, to: 'node' | 'gateway', as: string, told: object) => {
    const body = new TextEncoder().encode(JSON.stringify(told))
    const signed = { nodeId: as, to, method: 'POST', path, body } as const
    const headers = await signedHeaders(secret, signed, Date.now())
    return fetch(url + path, { method: 'POST', headers, body })
  }
  const receipt = { requestId, model: 'tiny', domain: 'default', maskVersion: 0, finishReason: 'stop' }
  const sums = { promptTokens: 1, completionTokens: 1_000_000, queueMs: 0, totalMs: 0 }
  const forged = { ...receipt, ...sums, timeToFirstTokenMs: null, drift: null }
  const settle = (as: string, nodeId: string) =>
    call(faults.fleet.url, '/internal/nodes/receipts', 'gateway', as, { nodeId, receipts: [forged] })
  expect(await (await settle(other, other)).json()).toEqual({ settled: 0 })
  expect((await settle(other, node.id)).status).toBe(401)
  expect((await settle(node.id, node.id)).status).toBe(401)
  const { url } = await node.process.ready()
  const refused = await call(url, '/rpc/evaluate', 'node', node.id, {
    model: 'tiny',
    maskVersion: 0,
    text: 'x',
  })
  expect([refused.status, ((await refused.json()) as ErrorBody).error.code]).toEqual([
    401,
    'invalid_signature',
  ])
  expect(await stream.end()).toBe('done')
  await faults.fleet.settled()
  expect(await faults.fleet.admin<string>('GET', '/metrics')).not.toMatch(
    /copal_completion_tokens_total\{.*\} \d{7}/,
  )
})

test('a node with the secret of another node, or of the gateway, does not start and says what to do', async () => {
  const environment = await faults.fleet.environment('node-c')
  for (const [secret, message] of [
    [await faults.fleet.nodeSecret('node-a'), "COPAL_NODE_SECRET is the secret of node 'node-a'"],
    [faults.fleet.gatewaySecret, "COPAL_NODE_SECRET: a node's own secret is expected"],
  ] as const) {
    const node = startNodeProcess({ ...environment, COPAL_NODE_SECRET: secret })
    await expect(node.ready()).rejects.toThrow(message)
  }
})

test('a client that reads slowly receives the whole stream', async () => {
  // 18 MB. The sockets buffer 13 of them, and the node has to hold the rest.
  const stream = await open(
    {
      prompt: undefined,
      messages: [{ role: 'user', content: 'x' }],
      n: 4,
      max_tokens: 3_000,
      logprobs: true,
      top_logprobs: 20,
    },
    { path: '/v1/chat/completions' },
  )
  // Everything is generated, and most of it is unread.
  await faults.fleet.settled()
  expect(await stream.end()).toBe('done')
})

test('a request waits for a node to return when all are down', async () => {
  for (const { process } of nodes.values()) await process.end('SIGKILL')
  const pending = ask({ max_tokens: 2 })
  await faults.start('node-a')
  expect(await responseEnd(await pending)).toBe('done')
})

test('a node that is stopped at once ends its streams with an error event, and its receipts say why', async () => {
  const stopped = async () => {
    const metrics = await faults.fleet.admin<string>('GET', '/metrics')
    return sumMetric(metrics, 'copal_request_errors_total', 'code="node_failed"')
  }
  const before = { errors: await receipts('error'), stopped: await stopped() }
  const stream = await open()
  // Without its supervisor it gives running requests no time.
  stream.node.process.child.disconnect()
  expect(await stream.end()).toBe('node_failed')
  expect(await stream.node.process.end()).toBe(0)
  await until('its receipt', async () => ((await receipts('error')) > before.errors ? true : undefined))
  expect(await stopped()).toBe(before.stopped + 1)
})

test('a node that gets SIGTERM finishes its requests and leaves the fleet', async () => {
  // Running requests have thirty seconds.
  const stream = await open({ max_tokens: 20 })
  const ended = stream.node.process.end('SIGTERM')
  expect(await stream.end()).toBe('done')
  expect(await ended).toBe(0)
  await until('it to be forgotten', async () => {
    const { nodes: seen } = await faults.fleet.admin<{ nodes: { id: string }[] }>('GET', '/admin/status')
    return seen.some(({ id }) => id === stream.node.id) ? undefined : true
  })
})

testNoRequestIsLeft(faults)

/** Stops a node for 120 ms of each period, until the test ends or the returned function is called. */
function slowDown({ child }: NodeProcess, periodMs: number): () => void {
  const slow = setInterval(() => {
    child.kill('SIGSTOP')
    setTimeout(() => child.kill('SIGCONT'), 120)
  }, periodMs)
  const speedUp = () => clearInterval(slow)
  onTestFinished(speedUp)
  return speedUp
}

/** Starts a node whose clock is off, until the test ends. */
async function startSkewed(id: string, aheadS: number): Promise<NodeProcess> {
  const skew = `const now = Date.now; Date.now = () => now() + ${aheadS * 1000}`
  const skewed = startNodeProcess({
    ...(await faults.fleet.environment(id)),
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(skew)}`,
  })
  onTestFinished(async () => void (await skewed.end('SIGKILL')))
  await skewed.ready()
  return skewed
}
