/**
 * The cost of a stream in the gateway: the deployed Worker in workerd alone, a node that writes as much as it can, and clients
 * that read at their own pace.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { request, type IncomingMessage, type ServerResponse } from 'node:http'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { startBuiltGateway, type BuiltGateway } from '../../gpu-node/bench/gateways/built-gateway.ts'
import { freePort } from '../../infra/local/processes/ports.ts'
import { gatewayBundle } from '../../infra/local/service/gateway-bundle.ts'
import { countCalls, COUNTING_FLAGS, type CallCounts } from '../support/processes/call-counts.ts'
import { startScriptedNode, type ScriptedNode } from '../support/doubles/scripted-node.ts'
import { bytesInSockets } from '../support/processes/socket-queues.ts'
import { untilSettled } from '../support/harness/settled.ts'

const MIB = 2 ** 20
/** Size of one event. */
const EVENT_BYTES = 16 * 1024
/** The most bytes of a stream that the gateway may buffer. */
const MOST_HELD_BYTES = 2 * MIB
/** The bytes that remain to be sent after a pause. */
const REST_BYTES = 16 * MIB
const FEW_CHUNKS = 20
/** Nothing that has to do with time runs half as often meanwhile. */
const MANY_CHUNKS = 600

let dir: string
let gateway: BuiltGateway
let calls: CallCounts
let node: ScriptedNode
let key: string
/** Writes the node's response to the next call. */
let script: (response: ServerResponse) => Promise<void>

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'copal-streams-'))
  const inspectorPort = await freePort()
  vi.stubEnv('MINIFLARE_WORKERD_V8_FLAGS', COUNTING_FLAGS)
  // Heartbeats are few, so that they run no JavaScript meanwhile.
  const variables = {
    COPAL_NODE_SILENT_MS: '300000',
    COPAL_NODE_DEAD_MS: '300000',
    COPAL_LEASE_MS: '300000',
  }
  const root = resolve(import.meta.dirname, '../..')
  gateway = await startBuiltGateway({ root, dir, variables, inspectorPort })
  vi.unstubAllEnvs()
  const source = await readFile((await gatewayBundle(root)).scriptPath, 'utf8')
  calls = await countCalls(inspectorPort, 'copal', source)
  node = await startScriptedNode(gateway, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-copal-mask': '0' })
    return script(response)
  })
  const made = await fetch(`${gateway.url}/admin/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.adminKey}` },
    body: JSON.stringify({ name: 'streams' }),
  })
  key = ((await made.json()) as { key: string }).key
})
afterAll(async () => {
  calls?.close()
  node?.close()
  await gateway?.stop()
  await rm(dir, { recursive: true, force: true })
})

test.runIf(process.platform === 'linux')(
  'a client that does not read stops the node, the gateway buffers little, and no byte is lost',
  async () => {
    const source = endlessEvents()
    script = (response) => source.write(response)
    const answer = await open()
    onTestFinished(() => void answer.destroy())
    const ports = [Number(new URL(gateway.url).port), node.port]
    /** Bytes that the node has written, that the client has not read, and that are in no socket. */
    const heldBytes = () => source.takenBytes() - answer.socket.bytesRead - bytesInSockets(ports)
    const look = () => {
      // Bytes that move between sockets while they are listed may be missed, but not three times.
      const held = Math.min(heldBytes(), heldBytes(), heldBytes())
      expect(held, 'bytes in the gateway').toBeLessThan(MOST_HELD_BYTES)
    }

    const beating = setInterval(() => void node.sendHeartbeat().catch(() => undefined), 1_000)
    onTestFinished(() => clearInterval(beating))
    await once(answer, 'readable')
    await untilSettled(source.takenBytes, look)

    const hash = createHash('sha256')
    const read = () => {
      const chunk = answer.read() as Buffer | null
      if (chunk) hash.update(chunk)
    }
    for (let turn = 0; turn < 20; turn += 1) {
      read()
      await sleep(20)
      look()
    }
    source.endAfter(REST_BYTES)
    answer.on('readable', read)
    await once(answer, 'end')
    expect(hash.digest('hex')).toBe(source.sha256())
  },
)

test('no JavaScript runs per chunk of a stream', async () => {
  const few = await ranFor(FEW_CHUNKS)
  expect(Math.max(...few.values())).toBeGreaterThan(0)
  const many = await ranFor(MANY_CHUNKS)
  const more = [...many].filter(([place, count]) => count - (few.get(place) ?? 0) > MANY_CHUNKS / 2)
  expect(more).toEqual([])
  expect(await calls.streamsMade()).toBe(0)
})

/** Returns how often each function ran while a stream of this many chunks passed. */
async function ranFor(chunks: number): Promise<Map<string, number>> {
  await node.sendHeartbeat()
  await calls.take()
  expect(await chunksThrough(chunks)).toBe(chunks)
  return calls.take()
}

/** Streams this many events, each written after the client read the one before. Returns how many arrived. */
async function chunksThrough(chunks: number): Promise<number> {
  let came = 0
  script = async (response) => {
    for (let event = 0; event < chunks; event += 1) {
      response.write(`data: {"n":${event}}\n\n`)
      while (came <= event) await sleep(1)
    }
    response.end('data: [DONE]\n\n')
  }
  const answer = await open()
  for await (const chunk of answer) came += String(chunk).split('data: {').length - 1
  return came
}

async function open(): Promise<IncomingMessage> {
  const asked = request(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    agent: false,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
  })
  asked.end(JSON.stringify({ model: 'tiny', stream: true, messages: [{ role: 'user', content: 'x' }] }))
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  if (answer.statusCode !== 200)
    throw new Error(`HTTP ${answer.statusCode}: ${(await answer.toArray()).join('')}`)
  return answer
}

/** Writes events until it is stopped, and counts the bytes that the kernel accepted. */
function endlessEvents() {
  const hash = createHash('sha256')
  let taken = 0
  let left = Infinity
  return {
    takenBytes: () => taken,
    /** Hash of all written bytes. */
    sha256: () => hash.digest('hex'),
    endAfter: (bytes: number) => (left = bytes),
    async write(response: ServerResponse) {
      for (let event = 0; left > 0; event += 1, left -= EVENT_BYTES) {
        const bytes = `data: {"n":${event},"text":"`.padEnd(EVENT_BYTES - 4, 'x') + '"}\n\n'
        hash.update(bytes)
        await new Promise((written) => response.write(bytes, written))
        taken += EVENT_BYTES
      }
      response.end()
    },
  }
}
