import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { startGatewayDouble, type GatewayDouble } from '../../../support/doubles/gateway-double.ts'

const FILE = new Blob([new Uint8Array(2 ** 20)])
const SHA256 = createHash('sha256').update(new Uint8Array(FILE.size)).digest('hex')

async function setup(stallTimeoutMs?: number) {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const { url: baseUrl, nodeId, secret } = gateway
  const options = { baseUrl, nodeId, secret, ...(stallTimeoutMs === undefined ? {} : { stallTimeoutMs }) }
  return { gateway, client: createGatewayClient(options) }
}

/** Lets the gateway respond with one piece after another without end; resolves when the client has ended the response. */
function respondPiecewise(
  gateway: GatewayDouble,
  contentType: string,
  piece: () => Uint8Array,
  everyMs: number,
): Promise<void> {
  return new Promise((resolve) => {
    gateway.intercept = (_request, response) => {
      response.writeHead(200, { 'content-type': contentType })
      const timer = setInterval(() => {
        if (response.writableLength < 2 ** 22) response.write(piece())
      }, everyMs)
      response.on('close', () => {
        clearInterval(timer)
        resolve()
      })
      return true
    }
  })
}

/** From now on time passes for the client only by `vi.advanceTimersByTime`, and not while the machine is busy. */
function stopClock(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Receives {@link FILE} in pieces, before each of which time passes; a loopback buffers tens of megabytes before the sender waits. */
function slowFile(pieces: number, restMs: number): Blob {
  async function* taken(): AsyncGenerator<Uint8Array> {
    for (let piece = 0; piece < pieces; piece++) {
      vi.advanceTimersByTime(restMs)
      await turn()
      yield new Uint8Array(FILE.size / pieces)
    }
  }
  return Object.assign(FILE.slice(), { stream: () => ReadableStream.from(taken()) })
}

test('a slow upload has no total time limit', async () => {
  const { gateway, client } = await setup(1_000)
  gateway.intercept = (request) => {
    expect(request.headers['content-length']).toBe(String(FILE.size))
    return false
  }
  stopClock()
  await client.uploadMask(SHA256, slowFile(16, 100))
  expect(gateway.artifacts.get(`masks/${SHA256}`)).toHaveLength(FILE.size)
})

test('an upload that stalls is aborted', async () => {
  const { gateway, client } = await setup(500)
  gateway.intercept = () => true
  await expect(client.uploadMask(SHA256, FILE)).rejects.toMatchObject({
    code: 'no_node_available',
    message: expect.stringContaining('no progress for 1 s') as string,
  })
})

test('a slow download has no total time limit, and is aborted when it stalls', async () => {
  const { gateway, client } = await setup(1_000)
  const responding = Promise.withResolvers<ServerResponse>()
  gateway.intercept = (_request, response) => {
    responding.resolve(response)
    return true
  }
  stopClock()
  let received = 0
  const download = async () => {
    for await (const chunk of await client.download('masks', SHA256, FILE.size)) received += chunk.length
  }
  const stalled = download().catch((error: unknown) => error)
  const response = await responding.promise
  for (let sent = 1_000; sent <= 6_000; sent += 1_000) {
    response.write(new Uint8Array(1_000))
    while (received < sent) await turn()
    vi.advanceTimersByTime(900)
  }
  vi.advanceTimersByTime(100)
  expect(await stalled).toMatchObject({
    code: 'no_node_available',
    message: expect.stringContaining('no progress for 1 s') as string,
  })
  expect(received).toBe(6_000)
})

test.each([200, 404])('a response of status %i that stalls is aborted', async (status) => {
  const { gateway, client } = await setup(300)
  gateway.intercept = (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).write('{"desired":')
    return true
  }
  stopClock()
  let error: unknown
  void client.heartbeat({} as Heartbeat).catch((thrown: unknown) => (error = thrown))
  // A millisecond passes in each turn, so that the headers are read long before the body is late.
  for (; error === undefined; vi.advanceTimersByTime(1)) await turn()
  expect(error).toMatchObject({ code: status === 200 ? 'no_node_available' : 'not_found' })
})

test.each([
  ['trickles', () => new Uint8Array([0x20]), 20],
  ['does not end', () => new Uint8Array(2 ** 20), 0],
])('a response to a heartbeat that %s is given up', async (_what, piece, everyMs) => {
  const { gateway, client } = await setup()
  const left = respondPiecewise(gateway, 'application/json', piece, everyMs)
  await expect(client.heartbeat({} as Heartbeat, 500)).rejects.toMatchObject({ code: 'no_node_available' })
  await left
})

test.each([
  [
    'is longer than the file',
    () => new Uint8Array(2 ** 16),
    0,
    'service_unavailable',
    'more than the 100000 bytes',
  ],
  ['trickles', () => new Uint8Array([0x20]), 20, 'no_node_available', 'comes too slowly'],
])('a download that %s is ended at once', async (_what, piece, everyMs, code, message) => {
  const { gateway, client } = await setup(400)
  const left = respondPiecewise(gateway, 'application/octet-stream', piece, everyMs)
  let received = 0
  const download = async () => {
    for await (const chunk of await client.download('masks', SHA256, 100_000)) received += chunk.length
  }
  await expect(download()).rejects.toMatchObject({
    code,
    retryable: true,
    message: expect.stringContaining(message) as string,
  })
  expect(received).toBeLessThanOrEqual(100_000)
  await left
})

test("the time that the caller takes for the bytes of a download is not the gateway's", async () => {
  const { gateway, client } = await setup(100)
  gateway.artifacts.set(`masks/${SHA256}`, new Uint8Array(FILE.size))
  let received = 0
  for await (const chunk of await client.download('masks', SHA256, FILE.size)) {
    if (received === 0) await new Promise((resolve) => setTimeout(resolve, 300))
    received += chunk.length
  }
  expect(received).toBe(FILE.size)
})

test("a rejected file reports the gateway's error", async () => {
  const { gateway } = await setup()
  const stranger = createGatewayClient({
    baseUrl: gateway.url,
    nodeId: 'node-2',
    secret: gateway.secret,
  })
  await expect(stranger.uploadMask(SHA256, FILE)).rejects.toMatchObject({ code: 'invalid_signature' })
})

const failing = JSON.stringify(errorBody(new AppError('internal_error', 'Broken.')))

test.each([
  ['a gateway that fails, which is no lost connection', 503, failing, 'service_unavailable'],
  ['a page of whatever failed', 500, '<html>', 'service_unavailable'],
  ['too many calls', 429, '', 'service_unavailable'],
  ['what lies in front of a gateway that it does not reach', 502, '<html>', 'no_node_available'],
  ['a proxy that lets nobody through', 403, '<html>', 'no_node_available'],
])('%s', async (_what, status, body, code) => {
  const { gateway, client } = await setup()
  gateway.intercept = (_request, response) => {
    response.writeHead(status).end(body)
    return true
  }
  const error: unknown = await client.download('datasets', SHA256, 1).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code, retryable: true })
})

test('a redirect is not followed, so that no other server gets the headers of the proxy', async () => {
  const { gateway } = await setup()
  const { url: baseUrl, nodeId, secret } = gateway
  const client = createGatewayClient({ baseUrl, nodeId, secret, headers: { 'cf-access-client-secret': 's' } })
  gateway.intercept = ({ url }, response) => {
    if (url === '/login') response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in')
    else response.writeHead(302, { location: `${gateway.url}/login?token=1` }).end()
    return true
  }
  const error: unknown = await client.receipts({ nodeId, receipts: [] }).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 'no_node_available', retryable: true })
  expect(String(error)).toContain(`HTTP 302, a redirect to ${gateway.url}/login`)
  expect(String(error)).not.toContain('token=1')
  expect(gateway.calls.filter((call) => call.includes('/login'))).toEqual([])
})

type Client = ReturnType<typeof createGatewayClient>

test.each<[string, (client: Client) => Promise<unknown>]>([
  ['acknowledges no receipts', (client) => client.receipts({ nodeId: 'node-1', receipts: [] })],
  ['is no response to a heartbeat', (client) => client.heartbeat({} as Heartbeat)],
  ['stores no mask', (client) => client.uploadMask(SHA256, FILE)],
  ['stores no piece of statistics', (client) => client.uploadStatistics(SHA256, SHA256, FILE, SHA256)],
  ['completes no statistics', (client) => client.uploadStatistics(SHA256, 'manifest.json', FILE, SHA256)],
  ['keeps no response', (client) => client.sendCachedResponse({} as CachedResponse)],
])('a page of another server %s, and is named in the error', async (_what, send) => {
  const { gateway, client } = await setup()
  gateway.intercept = (request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Welcome')
    return true
  }
  const error: unknown = await send(client).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({
    code: 'no_node_available',
    retryable: true,
    message: expect.stringMatching(
      /^What answers at http\S+ is not a copal gateway: .*HTTP 200, text\/html/,
    ) as string,
  })
})

test('a heartbeat without a response fails after the time limit of its caller', async () => {
  const { gateway, client } = await setup()
  gateway.intercept = () => true
  await expect(client.heartbeat({} as Heartbeat, 50)).rejects.toMatchObject({
    code: 'no_node_available',
    message: expect.stringContaining('no response for 1 s') as string,
  })
})
