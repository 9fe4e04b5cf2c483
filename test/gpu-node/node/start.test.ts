import { setTimeout as sleep } from 'node:timers/promises'
import { createServer } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startNodeProcess } from '../../support/processes/node-process.ts'
import { commandLine, descendants } from '../../support/processes/service.ts'
import { WAIT } from '../../support/harness/wait.ts'
import {
  heartbeatWhere,
  tinyFiles,
  prepareNode,
  urlOf,
  prepareWholeNodes,
} from '../../support/processes/whole-node.ts'

/** The tiny model's end of text. */
const END_TOKEN = 2

// A long context, so that an output can run until its node is stopped.
prepareWholeNodes({ contextLength: 16_384 })

/** A stream that a node begins to give, of up to 200 tokens unless `changes` allow more. */
function streamFrom(
  url: string,
  gateway: Awaited<ReturnType<typeof prepareNode>>['gateway'],
  requestId: string,
  changes: object,
  path = '/rpc/completions',
): Promise<Response> {
  const request = { model: 'tiny', prompt: 'the other party', max_tokens: 200, stream: true, ...changes }
  const call = { requestId, domain: 'legal', sample: false, request }
  return gateway.callNode(url, 'POST', path, call)
}

test('SIGTERM lets a stream finish, refuses new work, says goodbye and leaves no process', async () => {
  const { gateway, start } = await prepareNode()
  // As long as the stream may take on a busy machine.
  const node = await start({ COPAL_GRACE_MS: '500000' })
  await heartbeatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  const response = await streamFrom(await urlOf(node), gateway, 'request-long', {
    temperature: 1,
    seed: 1,
  })
  const children = descendants(node.pid)
  expect(children.length).toBeGreaterThan(0)
  const ended = node.end('SIGTERM')
  const stream = await response.text()
  expect(stream).toMatch(/data: \[DONE\]\n\n$/)
  expect(await ended).toBe(0)
  // The node may have ended before its last messages are read here.
  await vi.waitFor(() => {
    expect(gateway.heartbeats.at(-1)?.leaving).toBe(true)
    expect(gateway.heartbeats.at(-1)?.draining).toBe(true)
    expect(gateway.receipts.get('request-long')?.finishReason).toMatch(/stop|length/)
  }, WAIT)
  await vi.waitFor(() => expect(children.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)
})

test('SIGTERM leaves a client that reads late the grace period to read its whole response', async () => {
  const { gateway, start } = await prepareNode()
  const node = await start({ COPAL_GRACE_MS: '500000' })
  await heartbeatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  // More than the connection buffers, in few tokens.
  const long = {
    prompt: undefined,
    messages: [{ role: 'user', content: 'x' }],
    max_tokens: 500,
    n: 8,
    logprobs: true,
    top_logprobs: 20,
    logit_bias: { [END_TOKEN]: -100 },
  }
  const url = await urlOf(node)
  const response = await streamFrom(url, gateway, 'request-late', long, '/rpc/chat-completions')
  await vi.waitFor(() => expect(gateway.receipts.get('request-late')?.finishReason).toBe('length'), {
    timeout: 120_000,
  })
  const ended = node.end('SIGTERM')
  await vi.waitFor(() => expect(gateway.heartbeats.at(-1)?.draining).toBe(true), WAIT)
  // Longer than a node needs to stop that has nothing to do.
  await sleep(3_000)
  const stream = await response.text()
  expect(stream).toMatch(/data: \[DONE\]\n\n$/)
  expect(stream.length).toBeGreaterThan(4_000_000)
  expect(await ended).toBe(0)
})

test('what runs longer than COPAL_GRACE_MS is cut with an error event, and told in its receipt', async () => {
  const { gateway, start } = await prepareNode()
  const node = await start({ COPAL_GRACE_MS: '0' })
  await heartbeatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  const response = await streamFrom(await urlOf(node), gateway, 'request-cut', {
    // It does not end by itself before the node is stopped.
    max_tokens: 12_000,
    logit_bias: { [END_TOKEN]: -100 },
  })
  const ended = node.end('SIGTERM')
  const stream = await response.text()
  expect(stream).toContain('"error":')
  expect(stream).not.toContain('[DONE]')
  expect(await ended).toBe(0)
  await vi.waitFor(() => expect(gateway.receipts.get('request-cut')?.finishReason).toBe('error'), WAIT)
  expect(gateway.receipts.get('request-cut')?.errorCode).toBe('node_failed')
})

test('what takes longer than COPAL_REQUEST_TIMEOUT_MS is ended, whoever waits for it', async () => {
  const { gateway, start } = await prepareNode()
  const node = await start({ COPAL_REQUEST_TIMEOUT_MS: '1' })
  await heartbeatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  const response = await streamFrom(await urlOf(node), gateway, 'request-late', { n: 8 })
  expect(await response.text()).toContain('"code":"deadline_exceeded"')
})

test('a node whose supervisor vanishes ends, and its processes with it', async () => {
  const { start } = await prepareNode()
  const node = await start()
  const pids = [node.pid, ...descendants(node.pid)]
  expect(pids.length).toBeGreaterThan(1)
  node.child.disconnect()
  await vi.waitFor(() => expect(pids.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)
  await vi.waitFor(() => expect(node.child.exitCode).toBe(0), WAIT)
})

test('a second node with the home of a running one is refused, naming that one', async () => {
  const { start } = await prepareNode()
  const first = await start()
  await expect(start()).rejects.toThrow(new RegExp(`A node already runs with this home.*pid ${first.pid}`))
  await first.end('SIGKILL')
  await start()
})

test('a port in use is told at once in one line', async () => {
  const { gateway, home } = await prepareNode()
  const taken = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void taken.close())
  await vi.waitFor(() => expect(taken.listening).toBe(true), WAIT)
  const address = taken.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const node = startNodeProcess({
    COPAL_MODEL: tinyFiles().tiny.dir,
    COPAL_HOME: home,
    COPAL_CACHE: tinyFiles().cacheDir,
    COPAL_NODE_PORT: String(address.port),
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
  })
  await expect(node.ready()).rejects.toThrow(/\(1\)/)
  expect(node.messages).toEqual([
    { type: 'failed', message: expect.stringMatching(/^Port \d+ on 127.0.0.1 is in use/) as string },
  ])
})

test('a node without its secret says what is missing', async () => {
  const node = startNodeProcess({})
  await expect(node.ready()).rejects.toThrow(/COPAL_NODE_SECRET: the node's own secret is required/)
  expect(node.child.exitCode).toBe(1)
})

test('heartbeats name the pruning methods until the gateway has registered them, and again when it has lost them', async () => {
  const { gateway, start } = await prepareNode()
  await start({ COPAL_HEARTBEAT_MS: '50' })
  const first = await heartbeatWhere(gateway, () => true)
  expect(first.methods).toContain('continual-wanda+swaps')
  await heartbeatWhere(gateway, ({ methods }) => methods !== undefined, gateway.heartbeats.length)
  gateway.registered = true
  await heartbeatWhere(gateway, ({ methods }) => methods === undefined)
  const since = gateway.heartbeats.length
  await heartbeatWhere(gateway, () => true, since)
  expect(gateway.heartbeats.slice(since).every(({ methods }) => methods === undefined)).toBe(true)
  gateway.registered = false
  const again = await heartbeatWhere(gateway, ({ methods }) => methods !== undefined)
  expect(again.methods).toEqual(first.methods)
})
